"""Continuous batching, for every engine of ours: which answers run, what a step computes, the thread that does it."""
