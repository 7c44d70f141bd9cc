"""`options` of Ollama's requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmservice_gateway.dialects.pieces import Json
from llmservice_gateway.dialects.reading import Fields, wrong
from llmservice_runtime.wire.errors import bad_request, unsupported

CONTEXT = "options.num_ctx"
SAME: Mapping[str, tuple[str, type[Any]]] = {
    "temperature": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "min_p": ("min_p", float),
    "presence_penalty": ("presence_penalty", float),
    "frequency_penalty": ("frequency_penalty", float),
    "repeat_penalty": ("repetition_penalty", float),
}
"""Options that chat has as well, with their names there; engines know the ranges."""
PLANNED = (
    "numa", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "use_mmap", "use_mlock", "num_thread",
)  # fmt: skip
"""How Ollama loads and computes. The plan decides that, and no answer differs by it."""
NEUTRAL: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "tfs_z": ((1,), "no engine here has tail-free sampling; use `top_p` or `min_p`."),
    "typical_p": ((1,), "no engine here has typical sampling; use `top_p` or `min_p`."),
    "mirostat": ((0,), "no engine here has Mirostat; use `temperature` and `top_p`."),
    "penalize_newline": ((True,), "line breaks are penalized like other tokens."),
    "logits_all": ((False,), "use `logprobs`."),
    "vocab_only": ((False,), "a service has its whole model."),
    "embedding_only": ((False,), "`spec.task` says what a service is for."),
}
"""Options that are taken where they say what is done anyway."""
OF_OTHERS = {"num_keep": "nothing is left out of a prompt; send a shorter one."}


@dataclass(frozen=True, slots=True)
class Options:
    """`sampling` has chat's names; `given` are the options that ask for it."""

    sampling: Json = field(default_factory=dict)
    context_tokens: int = 0
    given: tuple[str, ...] = ()


def read(options: Fields | None) -> Options:
    """What they ask for. ApiError 400 naming the one that no engine here has."""
    if options is None:
        return Options()
    found: Json = {}
    given = []
    for name, (chats, kind) in SAME.items():
        if (value := options.one(kind, name)) is not None:
            found[chats] = value
            given.append(name)
    if (seed := options.one(int, "seed")) is not None and seed >= 0:  # less is a random one
        found["seed"] = seed
    if (most := options.one(int, "num_predict")) is not None and most > 0:  # less is as many as there is room for
        found["max_tokens"] = most
    if stops := _stops(options):
        found["stop"] = stops
        given.append("stop")
    context = options.one(int, "num_ctx") or 0
    options.no_op(*PLANNED)
    for name, (neutral, why) in NEUTRAL.items():
        if (value := options.any(name)) is not None and value not in neutral:
            raise unsupported(options.at(name), why)
    options.no_op("mirostat_tau", "mirostat_eta")
    _last(options, found)
    options.end(OF_OTHERS)
    return Options(found, context, tuple(given))


def _stops(options: Fields) -> list[str]:
    given = options.any("stop")
    if isinstance(given, str):
        return [given]
    if given is not None and not (isinstance(given, list) and all(isinstance(one, str) for one in given)):
        raise wrong(options.at("stop"), "a string or a list of strings", given)
    return [one for one in given or () if one]


def _last(options: Fields, found: Json) -> None:
    """How far back penalties look: to the beginning. Without one it makes no difference."""
    last = options.one(int, "repeat_last_n")
    penalties = [found.get(name, 0) for name in ("presence_penalty", "frequency_penalty")]
    penalized = found.get("repetition_penalty", 1) != 1 or any(penalties)
    if penalized and last not in (None, -1):
        said = f"`{options.at('repeat_last_n')}` must be -1: penalties look back to the beginning of the prompt."
        raise bad_request(said, options.at("repeat_last_n"))
