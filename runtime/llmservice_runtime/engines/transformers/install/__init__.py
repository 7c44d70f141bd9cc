"""How the Transformers environment is made."""
