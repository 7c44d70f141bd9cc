"""Models that Ollama keeps on this machine: found, read, served where they lie; nothing of Ollama's is ever changed."""
