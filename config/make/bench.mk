.PHONY: bench-engines bench-runtime bench-startup bench-operator
bench-runtime: $(VENV)/.dev $(VENV)/.engine ## our runtime against llama-server; writes docs/benchmarks.md
	PYTHONPATH=runtime $(BIN)/python -m bench --write docs/benchmarks.md

bench-startup: $(VENV)/.dev $(VENV)/.engine ## how long the commands and a replica take to start
	PYTHONPATH=runtime $(BIN)/python -m bench.startup

bench-operator: $(VENV)/.dev ## 1,000 services on a real API server; BENCH_ARGS="--services 20 ..." for less
	PYTHONPATH=operator:e2e $(BIN)/python -m bench $(BENCH_ARGS)

bench-engines: $(VENV)/.dev $(VENV)/.engines ## vLLM and Transformers as we serve them against themselves as they come; writes docs/benchmarks-engines.md
	PYTHONPATH=runtime $(BIN)/python -m bench.engines --write docs/benchmarks-engines.md
