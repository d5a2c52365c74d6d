"""Virtual machines as members of the mesh: what joins them, and takes them out again."""
