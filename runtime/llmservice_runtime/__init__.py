"""The runtime: serves one model on one engine. Its light part (all but the engines) plans for every other program."""
