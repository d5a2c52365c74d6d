"""Providers that make nothing and look nothing up: what `up` leaves in a state, without a machine or a cluster.

Everything that decides what a preview says is the stand-ins' own: `check` and `diff`, with the real engine and the real program.
"""
