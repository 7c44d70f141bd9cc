.PHONY: bench-engines bench-runtime bench-startup bench-memory bench-gpu bench-embeddings bench-adapters bench-operator bench-scaling bench-routing bench-gateway bench-console bench-batch
bench-runtime: $(VENV)/.dev $(VENV)/.engine ## our runtime against llama-server; writes docs/benchmarks.md
	PYTHONPATH=runtime $(BIN)/python -m bench --write docs/benchmarks.md

bench-startup: $(VENV)/.dev $(VENV)/.engine ## how long the commands and a replica take to start
	PYTHONPATH=runtime $(BIN)/python -m bench.startup

# Alone on the machine: libraries that other processes push out of memory are missing in what is measured.
bench-memory: $(VENV)/.dev $(VENV)/.engines ## memory predicted and measured, each engine; writes docs/benchmarks-memory.md (half an hour)
	PYTHONPATH=runtime $(BIN)/python -m bench.memory --write docs/benchmarks-memory.md $(BENCH_ARGS)

bench-gpu: $(VENV)/.dev $(VENV)/.engines ## GPU memory predicted and measured, where an NVIDIA GPU is; writes docs/benchmarks-gpu.md (10 minutes at most)
	PYTHONPATH=runtime timeout -k 30 600 $(BIN)/python -m bench.gpu --write docs/benchmarks-gpu.md $(BENCH_ARGS)

bench-operator: $(VENV)/.dev ## 1,000 services on a real API server; BENCH_ARGS="--services 20 ..." for less
	PYTHONPATH=operator:e2e $(BIN)/python -m bench $(BENCH_ARGS)

bench-engines: $(VENV)/.dev $(VENV)/.engines ## engines as we serve them against themselves as they come; writes docs/benchmarks-engines.md (25 minutes)
	PYTHONPATH=runtime $(BIN)/python -m bench.engines --write docs/benchmarks-engines.md $(BENCH_ARGS)

bench-embeddings: $(VENV)/.dev $(VENV)/.engines ## vectors by ours, sentence-transformers (fetched) and llama-server; writes docs/benchmarks-embeddings.md (5 minutes)
	PYTHONPATH=runtime $(BIN)/python -m bench.embeddings --write docs/benchmarks-embeddings.md $(BENCH_ARGS)

bench-adapters: $(VENV)/.dev $(VENV)/.engine ## what LoRA adapters cost on llama.cpp, ours and llama-server; writes docs/benchmarks-adapters.md (5 minutes)
	PYTHONPATH=runtime $(BIN)/python -m bench.adapters --write docs/benchmarks-adapters.md $(BENCH_ARGS)

bench-scaling: $(VENV)/.dev ## policies of scaling on traces of requests, simulated (minutes); writes docs/benchmarks-scaling.md
	PYTHONPATH=operator $(BIN)/python -m bench.scaling --search --write docs/benchmarks-scaling.md $(BENCH_ARGS)

bench-routing: $(VENV)/.dev ## prefix cache hits by who chooses the replica; BENCH_ARGS="--trace FILE" for a recorded trace
	PYTHONPATH=operator $(BIN)/python -m bench.routing --write docs/benchmarks-gateway.md $(BENCH_ARGS)

bench-gateway: $(VENV)/.dev ## CPU for each chunk of a stream, beside other proxies (fetched), and 2,000 slow streams; alone on the machine (10 minutes)
	PYTHONPATH=operator:e2e $(BIN)/python -m bench.gateway --write docs/benchmarks-gateway.md $(BENCH_ARGS)

bench-console: $(VENV)/.dev $(VENV)/.console ## what open consoles cost the gateway (2 minutes); alone on the machine
	PYTHONPATH=operator:e2e $(BIN)/python -m bench.console --write docs/benchmarks-gateway.md $(BENCH_ARGS)

bench-batch: $(VENV)/.dev $(VENV)/.engine ## live requests without and beside a batch; writes docs/benchmarks-batch.md (25 minutes)
	PYTHONPATH=runtime $(BIN)/python -m bench.batch --write docs/benchmarks-batch.md $(BENCH_ARGS)
