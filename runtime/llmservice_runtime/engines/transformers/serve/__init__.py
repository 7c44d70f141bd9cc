"""The Transformers engine: continuous batching over the models of Hugging Face Transformers."""
