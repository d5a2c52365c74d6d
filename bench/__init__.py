"""How long the environment takes on this machine."""
