"""Hugging Face Transformers: every architecture that has code there."""
