.PHONY: bench-runtime
bench-runtime: $(VENV)/.dev $(VENV)/.engine ## our runtime against llama-server; writes docs/benchmarks.md
	PYTHONPATH=runtime $(BIN)/python -m bench --write docs/benchmarks.md
