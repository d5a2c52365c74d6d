"""What `make` runs around Pulumi: stack choice, state, repair of what it does not see, summary and status."""
