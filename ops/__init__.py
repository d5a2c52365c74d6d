"""What `make` runs around Pulumi: stack choice, state, repair of a killed run, summary."""
