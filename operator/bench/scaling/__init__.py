"""How policies of scaling do on traces of requests: a simulator, the rivals' formulas, ours. See __main__."""
