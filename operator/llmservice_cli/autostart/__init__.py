"""Serving whenever this user's session begins: a unit of systemd's."""
