"""Policies over the resources of a stack, run over a preview's JSON. See docs/policies.md."""
