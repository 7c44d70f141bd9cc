"""llama.cpp's environment: its lock, how its library is built for this CPU, and the proof that it computes."""
