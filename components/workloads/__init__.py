"""VM workloads: what the mesh knows of them, and the VMs that join it."""
