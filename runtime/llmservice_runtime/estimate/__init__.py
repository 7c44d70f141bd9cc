"""Memory: weights, KV per token, overhead; GPU count, offload, the largest context that fits."""
