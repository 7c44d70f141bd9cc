"""What the headers of a LoRA adapter say, as data: plans and engines' rules know it without anything that reads one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from llmservice_runtime.contract.plain import plain
from llmservice_runtime.formats.facts import WORD

MOST_TARGETS = 64
"""Kinds of modules that facts name."""


class LoraFormat(StrEnum):
    """How an adapter is stored."""

    PEFT = "PEFT"
    GGUF = "GGUF"


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of module that an adapter changes, by the last part of its name, and the widths of its matrix."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class LoraFacts:
    """What the headers of one adapter say. Sizes in bytes."""

    format: LoraFormat
    base: str
    """The model that it says it is for; empty = it doesn't."""
    architecture: str
    """GGUF: `general.architecture`; empty for PEFT's files, which don't say."""
    rank: int
    """The largest of its modules."""
    targets: tuple[Target, ...]
    layers: int
    """Blocks that the base has at least."""
    weight_bytes: int
    files: tuple[str, ...]
    """What an engine needs: one GGUF, or the configuration and the weights."""
    file_bytes: int

    def __post_init__(self) -> None:
        """Words of headers are shown."""
        for word in ("base", "architecture"):
            object.__setattr__(self, word, plain(getattr(self, word))[:WORD])
        shown = (Target(plain(target.name)[:WORD], target.inputs, target.outputs) for target in self.targets)
        object.__setattr__(self, "targets", tuple(shown)[:MOST_TARGETS])

    def to_json(self) -> str:
        """JSON that `from_json` reads back to an equal value."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> LoraFacts:
        """ValueError when it is none."""
        try:
            return LoraFacts.of(json.loads(text))
        except RecursionError as error:
            raise ValueError("the facts of an adapter are nested too deeply") from error

    @staticmethod
    def of(body: Any) -> LoraFacts:
        """From the object of `to_json`. ValueError when it is none."""
        try:
            return LoraFacts(
                format=LoraFormat(body["format"]),
                base=str(body["base"]),
                architecture=str(body["architecture"]),
                rank=_count(body["rank"]),
                targets=tuple(
                    Target(str(t["name"]), _count(t["inputs"]), _count(t["outputs"])) for t in body["targets"]
                ),
                layers=_count(body["layers"]),
                weight_bytes=_count(body["weight_bytes"]),
                files=tuple(map(str, body["files"])),
                file_bytes=_count(body["file_bytes"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the facts of an adapter: {error}") from error


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise TypeError(f"{value!r} is no size")
    return value
