"""Settings of one runtime replica: what a plan becomes when it is run.

The same JSON file starts a runtime in a container and on one machine:
`llmservice-runtime serve --settings FILE`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from llmservice_runtime.contract.bounds import SettingsError, check, check_pool, one_of, shown
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.memory import PlannedLine
from llmservice_runtime.contract.ports import DATA_PORT, SUPERVISOR_PORT

OF_SOME_ENGINES = ("trust_remote_code", "load_quantization")
"""Settings that an engine may not have; it says which it has (`EngineDefinition.own_settings`)."""


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Everything a supervisor and its engine process need to serve one model."""

    engine: EngineType
    model_path: str
    """Absolute path: a GGUF file (the first shard when split) or a model folder."""
    model_name: str
    """Canonical name that clients send as `model`, and the metrics' `model_name` label."""
    model_aliases: tuple[str, ...] = ()
    """Other names that select the same model."""
    task: str = "Chat"
    """Chat, Completion, Embedding or Rerank. Completion refuses /v1/chat/completions with the reason; the last two
    answer with vectors or scores alone."""
    host: str = "127.0.0.1"
    port: int = DATA_PORT
    """Engine data port. 0 = the kernel chooses; the engine reports what it got."""
    supervisor_port: int = SUPERVISOR_PORT
    context_tokens: int = 4096
    """Longest prompt plus answer of one request, in tokens."""
    max_sequences: int = 16
    """Sequences decoded together."""
    kv_tokens: int = 0
    """KV pool shared by all sequences, in tokens, at least context_tokens; 0 = the larger of these and of what
    max_sequences usually need."""
    threads: int = 0
    """Compute threads; 0 = the CPUs this process may use, of which vLLM's core takes one."""
    max_queued_requests: int = 100
    """Requests that may wait beyond the running ones before 429."""
    drain_seconds: int = 300
    """Running streams may finish this long after SIGTERM."""
    load_seconds: int = 600
    """Budget from engine start to ready; beyond it the load is a LoadTimeout."""
    progress_seconds: float = 60.0
    """Liveness: running requests without a completed step for this long are NoProgress, or for ten times what the step
    takes by the engine's measured speed, where that is longer."""
    trust_remote_code: bool = False
    """Code that comes with the model may run (Transformers, vLLM)."""
    load_quantization: str = ""
    """Make the weights smaller while they are loaded: BitsAndBytesInt8, BitsAndBytesNF4 (Transformers) or FP8
    (Transformers, vLLM); empty = as stored."""
    engine_args: tuple[str, ...] = ()
    """What the plan tells the engine (how GPUs share the model), then spec.engine.args; both checked when planned."""
    engine_env: dict[str, str] = field(default_factory=dict)
    allow_origins: tuple[str, ...] = ()
    """Web pages of these origins (`https://chat.example.com`; `*` = any) may call the API from a browser."""
    planned_memory: tuple[PlannedLine, ...] = ()
    """Memory that the plan has for it, line by line; empty = not told. What is measured after loading is held against
    this."""
    planned_accelerator: str = ""
    """The GPU that was planned with; empty = none, or not told."""
    planned_file_bytes: int = 0
    """What the model's files have together."""
    planned_files: tuple[str, ...] = ()
    """Their names below the model's folder; the first is the one that `model_path` names where that is a file."""
    compiled: str = ""
    """Folder where what the engine compiles is kept from start to start; empty = in the engine's own places."""
    adapters_file: str = ""
    """Which LoRA adapters to serve (`contract.adapters`), looked at again and again; empty = none, ever."""
    adapters_cache: str = ""
    """Folder that they are fetched into, and may be written."""
    adapters_guard: str = ""
    """Folder of this replica alone, kept from start to start: which adapter an engine died of while it loaded it. Made
    when it is missing; empty = not kept."""
    adapters_private: bool = False
    """They may come from addresses inside the network."""
    adapters_proxies: tuple[str, ...] = ()
    """URLs of proxies that may be there in any case."""
    adapter_count: int = 0
    """How many the plan has room for; 0 = none."""
    adapter_rank: int = 0
    """Up to this rank."""
    failure_log: str = ""
    """Where the failure record goes; empty = nowhere (/dev/termination-log in a container)."""

    def to_json(self) -> str:
        """JSON text that `from_json` reads back to an equal value.

        What is at its default is left out: an older runtime image refuses a setting that it does not know. So a default
        stays what it is: who wants another writes it out, or gives the setting another name.
        """
        said = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != _default(f)}
        return json.dumps(said, indent=2, default=dataclasses.asdict)

    @property
    def of_some_engines(self) -> list[str]:
        """Which of the settings OF_SOME_ENGINES are set."""
        asked = (setting for setting in dataclasses.fields(self) if setting.name in OF_SOME_ENGINES)
        return [setting.name for setting in asked if getattr(self, setting.name) != _default(setting)]

    @staticmethod
    def from_json(text: str) -> RuntimeSettings:
        """Parse and check settings; SettingsError (a ValueError) names field, value, reason and remedy."""
        body = _document(text)
        known = {f.name for f in dataclasses.fields(RuntimeSettings)}
        if unknown := sorted(set(body) - known):
            raise SettingsError(
                f"There is no runtime setting `{unknown[0]}` (got {shown(body[unknown[0]])}).",
                "Leave it out; docs/runtime.md lists the settings. A newer operator may write what this image lacks.",
            )
        if missing := [name for name in ("engine", "model_path", "model_name") if name not in body]:
            raise SettingsError(f"The runtime setting `{missing[0]}` is missing.", "Name it in the settings file.")
        if wanted := one_of(*EngineType)(body["engine"]):
            raise SettingsError(f"`engine` is {shown(body['engine'])}; it must be {wanted}.", "Correct `engine`.")
        check(body)
        body["engine"] = EngineType(body["engine"])
        for name in ("model_aliases", "engine_args", "allow_origins", "planned_files", "adapters_proxies"):
            body[name] = tuple(body.get(name, ()))
        body["planned_memory"] = tuple(map(PlannedLine.of, body.get("planned_memory", ())))
        settings = RuntimeSettings(**body)
        check_pool(settings.context_tokens, settings.kv_tokens)
        return settings


def _document(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"The settings are not JSON: {error}.", "Write one JSON object.") from error
    if not isinstance(body, dict):
        raise SettingsError(f"The settings are {shown(body)}, no JSON object.", "Write one JSON object.")
    return body


def _default(setting: dataclasses.Field[Any]) -> Any:
    """What a setting is when nothing says it; MISSING for those that must be said."""
    factory = setting.default_factory
    return factory() if factory is not dataclasses.MISSING else setting.default
