"""The KV cache on a CPU where no plan says it: settings that somebody wrote by hand."""

from __future__ import annotations

from pathlib import Path

from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.case import Case
from llmservice_runtime.engines.vllm.definition import cpu_cache_bytes
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.budget import Shape
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.machine.machine import Device
from llmservice_runtime.machine.probe import read_machine
from llmservice_runtime.sources.local import LocalFiles
from llmservice_runtime.sources.uri import parse_uri

USUAL_TOKENS = 1024
"""Of a sequence, where the settings leave the pool's size open."""


def kv_bytes(settings: RuntimeSettings) -> int:
    """What vLLM must be told, so that it does not size the cache by the machine's memory."""
    files = LocalFiles(parse_uri(f"file://{settings.model_path}", Path("/")), None)
    facts = inspect_model(files, classes=known().configs)
    usual = settings.max_sequences * min(USUAL_TOKENS, settings.context_tokens)
    tokens = settings.kv_tokens or max(settings.context_tokens, usual)
    shape = Shape(Device.CPU, settings.context_tokens, settings.max_sequences, tokens)
    return cpu_cache_bytes(Case(facts, read_machine(), Device.CPU), shape, settings.engine_args)
