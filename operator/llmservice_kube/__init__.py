"""How the operator talks to the API server: kinds, login, a small client, a cache that watches and relists fill."""
