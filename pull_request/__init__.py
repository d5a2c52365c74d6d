"""What a pull request is told: which stacks it touches, and what `up` would change in each."""
