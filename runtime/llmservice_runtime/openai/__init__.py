"""The OpenAI protocol over any engine: requests, chat templates, tools, streams, metrics."""
