"""The process that serves with it."""
