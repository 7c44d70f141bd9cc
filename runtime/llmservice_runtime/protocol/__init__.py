"""What an engine and the HTTP layer say to each other: requests, deltas, tokens. No HTTP, no engine."""
