"""From a word to a service: what model it means, which version of it, and the manifest that serves it."""
