"""Memory arithmetic: weights, KV cache, what of an engine's budget fits a machine. Pure; knows no engine."""
