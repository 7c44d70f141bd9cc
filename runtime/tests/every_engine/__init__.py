"""One contract, three engines: whatever answers, a client can't tell which."""
