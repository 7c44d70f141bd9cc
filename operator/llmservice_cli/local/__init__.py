"""The local substrate: services of one machine as processes, behind one gateway, run by `llmservice up`."""
