"""Machines: one component whatever driver makes them."""
