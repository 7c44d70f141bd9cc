"""The servers under measurement: ours, and each engine as it comes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench import ours, peer
from bench.process import free_port, running
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.vllm.serve.pool import kv_bytes
from llmservice_runtime.install.environment import engine_python, engines_dir

SEQUENCES = 16
CONTEXT = 1024
"""Tokens of a prompt and its answer."""
BLOCK, BATCH = 256, 2048
"""Tokens of a block of the cache, and of a step: Transformers' own block, and our engine's step."""

SERVE = "import sys; sys.path.append(sys.argv.pop(1)); from transformers.cli.transformers import main; main()"
"""`transformers serve` wants an HTTP server beside it. The one of vLLM's environment will do: it comes last, so that
all else is what our engine runs on."""


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs: where, and the name it serves the model by."""

    name: str
    url: str
    model: str
    together: bool = True
    """Whether it computes answers together: else sixteen take four times as long as four."""


@contextlib.contextmanager
def our(engine: EngineType, model: Path, threads: int) -> Iterator[Server]:
    """Our supervisor and the engine below it. How many threads of vLLM's compute is left to it, as in its bare form."""
    threads = 0 if engine is EngineType.VLLM else threads
    with ours.server(model, sequences=SEQUENCES, context=CONTEXT, threads=threads, engine=engine) as url:
        yield Server("ours", url, "bench")


@contextlib.contextmanager
def bare_vllm(model: Path, threads: int) -> Iterator[Server]:
    """`vllm serve` with the plan's sizes, and neither plug-ins nor environment of ours."""
    port = free_port()
    settings = RuntimeSettings(
        EngineType.VLLM, str(model), "bench", context_tokens=CONTEXT, max_sequences=SEQUENCES, threads=threads
    )
    words = {
        "--served-model-name": "bench",
        "--port": port,
        "--max-model-len": CONTEXT,
        "--max-num-seqs": SEQUENCES,
        "--kv-cache-memory-bytes": kv_bytes(settings),
        "--generation-config": "vllm",
    }
    command = [str(engine_python(EngineType.VLLM)), "-m", "vllm.entrypoints.cli.main", "serve", str(model)]
    command += ["--host=127.0.0.1", "--enforce-eager", *(f"{name}={value}" for name, value in words.items())]
    env = {**os.environ, "VLLM_PLUGINS": "", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with running(command, f"http://127.0.0.1:{port}/health", env):
        yield Server("vllm serve", f"http://127.0.0.1:{port}", "bench")


@contextlib.contextmanager
def bare_transformers(model: Path, batching: bool) -> Iterator[Server]:
    """`transformers serve`, with or without its continuous batching, and with the plan's sizes.

    Left to itself that takes 60 % of the machine's memory on a CPU, for a cache and a mask over all of it that every
    step goes through: 1 token/s.
    """
    blocks = SEQUENCES * CONTEXT // BLOCK
    port, sizes = free_port(), {"block-size": BLOCK, "num-blocks": blocks, "max-batch-tokens": BATCH}
    batched = ["--continuous-batching", *(f"--cb-{name}={value}" for name, value in sizes.items())] if batching else []
    lent = next((engines_dir() / EngineType.VLLM.folder / "lib").glob("python*/site-packages"))
    command = [str(engine_python(EngineType.TRANSFORMERS)), "-c", SERVE, str(lent), "serve", str(model), *batched]
    with running(
        [*command, "--port", str(port)], f"http://localhost:{port}/health", {**os.environ, "HF_HUB_OFFLINE": "1"}
    ):
        yield Server(" ".join(["transformers serve", *batched[:1]]), f"http://localhost:{port}", str(model), batching)


@contextlib.contextmanager
def bare_llamacpp(model: Path, threads: int) -> Iterator[Server]:
    """`llama-server` of the same source and flags."""
    binary = peer.build(cache_dir() / "bench")
    with peer.server(binary, model, slots=SEQUENCES, context=CONTEXT, threads=threads) as url:
        yield Server("llama-server", url, "bench")


def all_of(engine: EngineType, model: Path, threads: int) -> list[AbstractContextManager[Server]]:
    """Ours first, then what it is held against."""
    if engine is EngineType.VLLM:
        return [our(engine, model, threads), bare_vllm(model, threads)]
    if engine is EngineType.LLAMA_CPP:
        return [our(engine, model, threads), bare_llamacpp(model, threads)]
    peers = [bare_transformers(model, batching) for batching in (False, True)]
    return [our(engine, model, threads), *peers]
