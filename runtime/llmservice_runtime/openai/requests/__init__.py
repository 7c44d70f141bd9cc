"""Requests as clients send them: every field either works, is a documented no-op, or is refused by name."""
