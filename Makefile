# `make up` and `make test` work on a fresh machine that has python3 (3.11+) with venv, and a C/C++ compiler.
# Builds that take minutes are cached under ~/.cache/llmservice.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKS := config/locks
DEMO := config/samples/demo.yaml

include config/make/*.mk

# Most tests wait most of the time, for a server or a cluster: more run at once than there are processors.
WORKERS := 4
# What a line with `time` took.
export TIMEFORMAT := ... %0R s

.PHONY: help up down test check unit e2e e2e-tests e2e-long generate clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

QUESTION := What is LLMService?

up: $(VENV)/.cli $(VENV)/.console $(VENV)/.engine ## serve the demo model on this machine and ask it one question
	@$(BIN)/llmservice up -f $(DEMO) --detach $(UP_ARGS)
	@printf '\n> %s\n' "$(QUESTION)"
	@$(BIN)/llmservice chat demo --prompt "$(QUESTION)"
	@echo
	@$(BIN)/llmservice ps --snippets demo
	@printf '\nThe service runs in the background; make down stops it. The commands are in $(BIN).\n'

down: $(VENV)/.cli ## stop what `make up` started
	@$(BIN)/llmservice down

test: check programs unit ## everything that needs no cluster: checks, then tests on the real engines and API server

check: $(VENV)/.dev ## formatting, lint, types, layers, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	time $(BIN)/mypy operator e2e
	time $(BIN)/mypy runtime
	time $(BIN)/lint-imports
	$(BIN)/python -m llmservice_api.generate --check
	$(BIN)/python -m llmservice_runtime.install.capabilities --check

unit: $(VENV)/.dev $(VENV)/.console $(VENV)/.engines $(VENV)/.clients programs
	$(ONCE_MORE) $(BIN)/pytest -n $(WORKERS) --dist loadgroup --durations 5 # each engine of the contract has one worker

e2e: $(VENV)/.dev $(VENV)/.console $(VENV)/.engines programs e2e-console ## what a user does, from the README, with the real programs
	$(CLUSTER) around $(MAKE) --no-print-directory e2e-tests

E2E := e2e/test_make_up.py e2e/test_cluster_down.py e2e/kubernetes
e2e-tests: $(VENV)/.dev $(VENV)/.console $(VENV)/.engines programs ## the same on a cluster that is there (make cluster)
	$(ONCE_MORE) $(BIN)/pytest -n $(WORKERS) --dist loadscope -m "not alone and not long" --durations 5 $(E2E)
	$(ONCE_MORE) $(BIN)/pytest -m "alone and not long" --durations 5 e2e/kubernetes

e2e-long: $(VENV)/.dev $(VENV)/.engines programs ## what takes long, before a release; writes what was counted to docs/e2e-long.md
	$(CLUSTER) around $(BIN)/pytest -m long --counts docs/e2e-long.md e2e/long e2e/kubernetes

generate: $(VENV)/.dev ## CRD, field reference and schema from the pydantic models
	$(BIN)/python -m llmservice_api.generate

clean: ## remove what make made in this checkout
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
