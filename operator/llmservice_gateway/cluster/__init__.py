"""The gateway as a program of its own in a cluster: services and endpoints from the API server, demand into a Lease."""
