"""A conversation in the terminal: what is asked (session), typed (lines, slash), sent (asking) and shown (talk)."""
