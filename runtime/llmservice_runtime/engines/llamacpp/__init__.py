"""llama.cpp, by way of llama-cpp-python: GGUF on every device."""
