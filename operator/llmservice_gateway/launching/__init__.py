"""Launching and ending models by requests, as clients of Xinference and Ollama do: where the installation allows it."""
