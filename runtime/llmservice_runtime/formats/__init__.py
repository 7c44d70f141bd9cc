"""Format detection: pure functions from header bytes to model facts."""
