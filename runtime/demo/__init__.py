"""The demo model: what it was trained on, how, and how its GGUF files are derived."""
