"""How to have everything on one Linux box from package registries alone."""
