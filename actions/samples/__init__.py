"""The proof that pods and virtual machines call each other."""
