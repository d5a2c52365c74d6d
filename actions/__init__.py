"""What acts on the world: machines, the cluster, the mesh and its members. Knows nothing of Pulumi.

An action reads one JSON request, prints one JSON result and may be run again after it was killed at any point. `registry.py` lists
all of them, `python3 -m actions NAME` runs one.
"""
