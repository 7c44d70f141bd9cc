"""Protocols that clients speak beside OpenAI's chat completions: each request becomes one of those, and its answer is
told in the protocol that it came in. Pure; what reads sockets is `retelling`, beside this folder."""
