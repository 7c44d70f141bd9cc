"""`make bench-runtime`: our runtime against llama-server from the same llama.cpp source, in one run."""
