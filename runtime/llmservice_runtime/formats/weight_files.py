"""How the names of files end that Hugging Face's engines load weights from."""

PICKLED = (".bin", ".pt", ".pth")
LOADED = (".safetensors", *PICKLED)
