"""Builders of the children, one kind per file: pure functions to plain objects."""
