"""Vectors and scores, of every engine that makes them, held against Transformers itself."""
