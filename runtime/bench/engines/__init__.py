"""vLLM and Transformers as we serve them against themselves as they come: `make bench-engines`."""
