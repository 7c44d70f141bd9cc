"""Vectors and scores for many requests at a time, over any model that computes a batch of texts."""
