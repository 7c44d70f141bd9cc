"""A toy engine: the next byte by the last one. It shows, and tests, that an engine is one folder and one line."""
