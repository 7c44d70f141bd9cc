.PHONY: bench-runtime bench-startup
bench-runtime: $(VENV)/.dev $(VENV)/.engine ## our runtime against llama-server; writes docs/benchmarks.md
	PYTHONPATH=runtime $(BIN)/python -m bench --write docs/benchmarks.md

bench-startup: $(VENV)/.dev $(VENV)/.engine ## how long the commands and a replica take to start
	PYTHONPATH=runtime $(BIN)/python -m bench.startup
