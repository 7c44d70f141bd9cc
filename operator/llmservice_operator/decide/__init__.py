"""What follows from what was observed: the next step of a service, without words. Pure."""
