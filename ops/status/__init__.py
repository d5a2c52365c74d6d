"""`make status`: everything of the stack as it is now, read-only."""
