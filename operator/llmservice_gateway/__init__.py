"""The gateway: one OpenAI URL in front of every service."""
