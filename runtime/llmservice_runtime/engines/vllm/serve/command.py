"""From settings to the command line and the environment of `vllm serve`. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmservice_runtime.contract.bounds import POOLED
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.torch_waits import waits
from llmservice_runtime.engines.vllm.arguments import Given
from llmservice_runtime.engines.vllm.definition import ENGINE
from llmservice_runtime.engines.vllm.options import EXECUTOR, ONLINE, vllm_options
from llmservice_runtime.engines.vllm.owned import TRUST
from llmservice_runtime.engines.vllm.plugins import NAMES, PARSER, REGISTRATION, WORKER

COMPILES = frozenset({"--enforce-eager", "--compilation-config", "--optimization-level"})
"""Whoever says one of them decides himself what is compiled."""
PARSERS = frozenset({"--tool-call-parser", "--reasoning-parser"})
CLI = "vllm.entrypoints.cli.main"
IN_CORE = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""The engine core computes itself, as on one GPU. On a CPU vLLM has a worker for that, to set its threads apart, which
are set for all here: another 5 s of imports, 0.4 GiB, and a core that asks it in a loop whether it is done."""
PLUGINS_ENV = "VLLM_PLUGINS"
KEEP_ALIVE_SECONDS = 75
"""An idle connection is kept for so long, as at our other engines; vLLM's 5 s close those that a gateway is about to
use."""
COMMENT_SECONDS = 10
"""A stream that waits gets a comment line as often."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the command depends on beside the settings."""

    python: str
    environ: Mapping[str, str]
    others: tuple[str, ...] = ()
    """Plug-ins of others in the engine's environment."""
    cpus: int = 1
    """That this process may use."""
    cpu: bool = False
    """Whether vLLM computes on them."""
    cache: str = ""
    """Folder for what is compiled; empty = vLLM's default."""
    pooling: str = ""
    """How a model that embeds makes one vector of a text's, in vLLM's words; empty = it is none."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """What vLLM is to read in config.json, of a model that makes vectors or scores."""
    kv_bytes: int = 0
    """Of the KV cache, where no argument says; 0 = vLLM decides, which it may on a GPU."""


def command(settings: RuntimeSettings, around: Surroundings) -> tuple[str, ...]:
    """argv. UserError BadArgument names an argument that vLLM would refuse."""
    given = vllm_options(settings.engine_args).given
    said = {name: value for name, value in _ours(settings, given, around).items() if name not in given}
    words = tuple(f"{name}={value}" if value else name for name, value in said.items())
    names = (settings.model_name, *settings.model_aliases)
    # -P: modules come from the environment, never from the folder that this happens to run in.
    start = (around.python, "-P", "-m", CLI, "serve", settings.model_path, "--served-model-name", *names)
    return (*start, *words, *settings.engine_args)


def _ours(settings: RuntimeSettings, given: Given, around: Surroundings) -> dict[str, str]:
    """Option -> value, empty for a flag; what the user or the plan gave goes before."""
    sequences = given["--max-num-seqs"].value if "--max-num-seqs" in given else settings.max_sequences
    said = {
        # With copies of a model vLLM would start as many API servers, each with bounds and drains of its own.
        "--api-server-count": "1",
        "--host": settings.host,
        "--port": str(settings.port),
        "--max-model-len": str(settings.context_tokens),
        "--max-num-seqs": str(sequences),
        # Clients find the defaults of docs/api.md on every engine; a model's own would be another per model.
        "--generation-config": "vllm",
        # What Lark, white space and errors mean is the same then as under our own engines.
        "--structured-outputs-config": '{"backend":"guidance"}',
        "--enable-prompt-tokens-details": "",
        "--sse-keep-alive-interval": str(COMMENT_SECONDS),
        "--disable-uvicorn-access-log": "",
        "--disable-fastapi-docs": "",
        "--fingerprint-mode": "none",
        # Who may call is checked before vLLM's own middleware, which lets every page call.
        "--allowed-origins": "[]",
        "--shutdown-timeout": str(settings.drain_seconds),
        "--worker-extension-cls": WORKER,
    }
    said |= _pooling(around) if settings.task in POOLED else _writing(settings, given, sequences)
    if _eager(around, given):
        # Compiling takes most of a minute of a first start and a C++ compiler, which images do not have.
        said["--enforce-eager"] = ""
    if around.cpu and not vllm_options(settings.engine_args).workers:
        said[EXECUTOR] = IN_CORE
    if settings.load_quantization:
        said["--quantization"] = _online(settings.load_quantization)
    if settings.trust_remote_code:
        said[TRUST] = ""
    if around.kv_bytes:
        said["--kv-cache-memory-bytes"] = str(around.kv_bytes)
    return said


def _pooling(around: Surroundings) -> dict[str, str]:
    """What makes vectors or scores. How many may wait is bounded before vLLM, which would count their texts."""
    said = {"--runner": "pooling"}
    if around.pooling:
        said["--pooler-config"] = json.dumps({"seq_pooling_type": around.pooling})
    if around.overrides:
        said["--hf-overrides"] = json.dumps(around.overrides)
    return said


def _writing(settings: RuntimeSettings, given: Given, sequences: int) -> dict[str, str]:
    """What writes text."""
    # vLLM counts those that run as well.
    said = {"--max-num-queued-reqs": str(max(sequences, settings.max_sequences) + settings.max_queued_requests)}
    # All are alike but batch work, which goes behind the others.
    said["--scheduling-policy"] = "priority"
    if PARSERS.isdisjoint(given):  # who names a parser of vLLM's gets that one for all
        said |= {"--enable-auto-tool-choice": "", "--tool-call-parser": PARSER, "--reasoning-parser": PARSER}
        said |= {"--tool-parser-plugin": REGISTRATION}
    elif "--tool-call-parser" in given:
        said["--enable-auto-tool-choice"] = ""
    return said


def _eager(around: Surroundings, given: Given) -> bool:
    """Whether nothing is compiled: on a CPU, unless the user says something of it."""
    return around.cpu and COMPILES.isdisjoint(given)


def _online(wanted: str) -> str:
    """What weights are made while they are loaded, in vLLM's words."""
    if wanted not in ONLINE:
        raise UserError(
            f"vLLM can't make weights {wanted} while loading them, only {', '.join(ONLINE)}.",
            "Leave load_quantization out, or use the engine Transformers.",
            FailureClass.BAD_ARGUMENT,
        )
    return ONLINE[wanted]


def environment(settings: RuntimeSettings, around: Surroundings) -> dict[str, str]:
    """The process's environment. What the user set in engine.env stays, but for plug-ins: ours are added to theirs.

    UserError BadArgument for what would leave them out.
    """
    ENGINE.environment(around.environ)
    # A processor is left to the API server, and to a core that has workers, which it asks in a loop whether they are
    # done: on two, two threads wait at every operation for the one that has no processor.
    threads = str(settings.threads or max(1, around.cpus - 1))
    ours = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # The model is here; nothing is looked up on a hub, by tokenizers either.
        "HF_HUB_OFFLINE": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(KEEP_ALIVE_SECONDS),
        # vLLM pins threads to the first cores of a node, where those of every other replica are too.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
    }
    if around.cpu:
        ours |= waits(around.environ)
    if _eager(around, vllm_options(settings.engine_args).given):
        # What vLLM compiles all the same, when it is first asked for log-probabilities (20 s), runs as it is.
        ours["TORCHDYNAMO_DISABLE"] = "1"
    if around.cache:
        ours |= {
            "VLLM_CACHE_ROOT": f"{around.cache}/vllm",
            "TORCHINDUCTOR_CACHE_DIR": f"{around.cache}/inductor",
            "TRITON_CACHE_DIR": f"{around.cache}/triton",
        }
    plugins = merged(around.environ.get(PLUGINS_ENV), around.others)
    return {**ours, **around.environ, PLUGINS_ENV: ",".join(plugins)}


def merged(users: str | None, others: Iterable[str]) -> tuple[str, ...]:
    """Names for VLLM_PLUGINS, which is a filter on all groups: the user's, or all there are, and ours."""
    theirs = tuple(others) if users is None else tuple(name.strip() for name in users.split(","))
    return tuple(dict.fromkeys(name for name in (*theirs, *NAMES) if name))
