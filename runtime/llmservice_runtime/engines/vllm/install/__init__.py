"""How vLLM's environment is made."""
