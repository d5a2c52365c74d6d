"""How an operation ends badly."""

from __future__ import annotations


class Failed(Exception):
    """An operation failed, and nothing of it goes into the state; the text is for people."""


class Cancelled(Failed):
    """The operator stopped the run."""
