"""What is read from a running mesh, and pods that have to get another sidecar."""
