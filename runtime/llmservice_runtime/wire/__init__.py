"""OpenAI's error bodies and event streams as bytes: what every server of the protocol writes, engine or gateway."""
