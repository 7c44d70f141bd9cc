"""A Kubernetes cluster for development and CI. Standard library only: nothing need be installed to start it."""
