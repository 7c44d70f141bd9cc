"""Preparing a model where it will be served: read its headers, report the facts, fill the cache."""
