"""k3s on machines, and clusters that exist already: what is done to nodes and clusters."""
