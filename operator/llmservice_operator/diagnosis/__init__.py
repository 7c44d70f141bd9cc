"""What is wrong with a pod or a refused write, and what to do about it. Pure."""
