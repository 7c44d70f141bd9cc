"""vLLM: the most requests at a time on GPUs."""
