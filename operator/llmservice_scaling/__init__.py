"""How many replicas a service wants: a pure function of what is told of it. Knows no clock, cluster or process."""
