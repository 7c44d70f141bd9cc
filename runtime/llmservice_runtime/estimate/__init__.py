"""Memory estimate: weights, KV cache and overhead of an engine, and what of it fits a machine. Pure, except `probe`."""
