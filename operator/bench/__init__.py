"""How the operator scales: a real API server and etcd, fake nodes, foreign pods, many services. See __main__."""
