"""The API: LLMService v1alpha1, its names and its condition vocabulary."""
