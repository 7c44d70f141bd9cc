"""API keys: who asks, what they see, and how much they may ask for."""
