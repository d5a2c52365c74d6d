"""`make verify`: every promise of the mesh, shown with real traffic on the stack that is up."""
