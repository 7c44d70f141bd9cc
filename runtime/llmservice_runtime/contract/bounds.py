"""What each runtime setting may be: its type and range, said before anything is bound or loaded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.memory import GPU, HOST, MOST_LINES, Part

POOLED = ("Embedding", "Rerank")
"""Tasks whose answers are vectors or scores."""
TASKS = ("Chat", "Completion", *POOLED)
LOAD_QUANTIZATIONS = ("BitsAndBytesInt8", "BitsAndBytesNF4", "FP8")
MAX_TOKENS = 2**31 - 1
MAX_PORT = 65535
MAX_BYTES = 2**50
MAX_SECONDS = 30 * 86400
ENV_NAME = re.compile(r"[^=\0\ud800-\udfff]+")
NO_TEXT = re.compile(r"[\0\ud800-\udfff]")
ANY = "*"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")

Rule = Callable[[Any], str]
"""What a value must be, as the end of "must be ..."; empty = it is."""


class SettingsError(UserError, ValueError):
    """A setting is missing, unknown or wrong: field, value, reason and remedy."""


def whole(least: int, most: int) -> Rule:
    """A whole number within bounds; booleans and 2048.0 are none."""

    def rule(value: Any) -> str:
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return "" if good else f"a whole number from {least} to {most}"

    return rule


def seconds(value: Any) -> str:
    """More than 0, finite."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    good = number and math.isfinite(value) and 0 < value <= MAX_SECONDS
    return "" if good else f"a number of seconds, more than 0 and at most {MAX_SECONDS}"


def text(value: Any) -> str:
    """Some text; files and environments take no NUL and no half of a surrogate pair, which JSON can spell."""
    return "" if _is_text(value) and value.strip() else "a text that is not empty"


def maybe_text(value: Any) -> str:
    """Text, or none."""
    return "" if _is_text(value) else "a text"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and NO_TEXT.search(value) is None


def one_of(*choices: str) -> Rule:
    """One of these words."""
    return lambda value: "" if isinstance(value, str) and value in choices else "one of " + ", ".join(choices)


def is_origin(text: str) -> bool:
    """Whether this is an origin as browsers send it: scheme, host, port where it is not the scheme's, no path."""
    return text == "null" or _ORIGIN.fullmatch(text.lower()) is not None


def flag(value: Any) -> str:
    """True or false."""
    return "" if isinstance(value, bool) else "true or false"


def origin(value: Any) -> str:
    """What browsers send as `Origin`, or `*`."""
    good = isinstance(value, str) and (value == ANY or is_origin(value))
    return "" if good else "an origin (SCHEME://HOST[:PORT], no path), null or *"


def texts(each: Rule) -> Rule:
    """A list of texts."""

    def rule(value: Any) -> str:
        good = isinstance(value, list | tuple) and not any(each(item) for item in value)
        return "" if good else "a list, each " + each(None)

    return rule


def environment(value: Any) -> str:
    """Names to texts, as a process takes them."""
    good = isinstance(value, Mapping) and all(
        isinstance(name, str) and ENV_NAME.fullmatch(name) and not maybe_text(item) for name, item in value.items()
    )
    return "" if good else "an object of names (without =) and texts"


def memory_lines(value: Any) -> str:
    """Lines of a plan's memory, as objects."""
    rules = {"name": text, "part": one_of(*Part), "where": one_of(GPU, HOST), "bytes": whole(0, MAX_BYTES)}
    good = isinstance(value, list | tuple) and len(value) <= MOST_LINES
    for line in value if good else ():
        good = good and isinstance(line, dict) and line.keys() == rules.keys()
        good = good and not any(rule(line[name]) for name, rule in rules.items())
    return "" if good else f"a list of at most {MOST_LINES} objects with name, part, where (GPU, Host) and bytes"


RULES: dict[str, Rule] = {
    "model_path": text,
    "model_name": text,
    "model_aliases": texts(text),
    "task": one_of(*TASKS),
    "host": text,
    "port": whole(0, MAX_PORT),
    "supervisor_port": whole(0, MAX_PORT),
    "context_tokens": whole(1, MAX_TOKENS),
    "max_sequences": whole(1, 65536),
    "kv_tokens": whole(0, MAX_TOKENS),
    "threads": whole(0, 4096),
    "max_queued_requests": whole(0, 1_000_000),
    "drain_seconds": whole(0, MAX_SECONDS),
    "load_seconds": whole(1, MAX_SECONDS),
    "progress_seconds": seconds,
    "trust_remote_code": flag,
    "load_quantization": lambda value: "" if value == "" else one_of(*LOAD_QUANTIZATIONS)(value),
    "engine_args": texts(maybe_text),
    "engine_env": environment,
    "allow_origins": texts(origin),
    "planned_memory": memory_lines,
    "planned_accelerator": maybe_text,
    "planned_file_bytes": whole(0, MAX_BYTES),
    "planned_files": texts(text),
    "compiled": maybe_text,
    "adapters_file": maybe_text,
    "adapters_cache": maybe_text,
    "adapters_guard": maybe_text,
    "adapters_private": flag,
    "adapters_proxies": texts(text),
    "adapter_count": whole(0, 4096),
    "adapter_rank": whole(0, 4096),
    "failure_log": maybe_text,
}


def check(settings: Mapping[str, Any]) -> None:
    """SettingsError for the first setting that can't be; those left out are at their defaults."""
    for name, value in settings.items():
        rule = RULES.get(name)
        if rule is not None and (wanted := rule(value)):
            raise SettingsError(f"`{name}` is {shown(value)}; it must be {wanted}.", f"Correct `{name}`.")


def check_ports(port: int, supervisor_port: int) -> None:
    """SettingsError when engine and supervisor would take the same port."""
    if port == supervisor_port != 0:
        raise SettingsError(
            f"`port` and `supervisor_port` are both {port}; the engine and the supervisor listen apart.",
            "Give one of them another number (0 = any free one).",
        )


def check_pool(context_tokens: int, kv_tokens: int) -> None:
    """SettingsError when the KV pool is smaller than one request may be; 0 = it is chosen."""
    if 0 < kv_tokens < context_tokens:
        raise SettingsError(
            f"`kv_tokens` is {kv_tokens}, and one request may take `context_tokens`, {context_tokens}; it must be as "
            "many at least, or 0 (chosen for you).",
            f"Set `context_tokens` to at most {kv_tokens}, or leave `kv_tokens` out.",
        )


def batch_places(sequences: int) -> int:
    """Sequences that batch work may have: a live request finds one free, and what others have left in it."""
    return max(1, sequences - max(1, sequences // 4))


def shown(value: Any) -> str:
    """The value as the file spells it, short."""
    written = json.dumps(value, ensure_ascii=False, default=str)
    return written if len(written) <= 80 else written[:77] + "..."
