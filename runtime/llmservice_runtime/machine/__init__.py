"""What a model could run on: CPUs, memory, GPUs, engines; read here, or told."""
