"""The operator's shell: kopf's events wake a key, the pure core decides, what differs is applied."""
