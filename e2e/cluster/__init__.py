"""A Kubernetes cluster for development and CI. Python's standard library only: nothing need be installed to start it."""
