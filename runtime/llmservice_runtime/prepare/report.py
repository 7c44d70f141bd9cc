"""What a prepare run reports: model facts in the 4 KiB that a container's termination message can hold."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import zlib
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeVar, get_type_hints

from llmservice_runtime.contract.failure import RECORD_LIMIT_BYTES
from llmservice_runtime.contract.template_text import ABILITIES
from llmservice_runtime.formats.facts import (
    LayerGroup,
    LayerKind,
    ModelFacts,
    ModelFormat,
    Quantization,
    Reads,
    Task,
    Vision,
    Width,
    WidthKind,
)

LARGEST = 1 << 20
"""Bytes that a report may unpack to: it comes from a container that its tenant controls."""
LARGEST_NUMBER = 1 << 63
_PACKED = "packed"
_NOT_ONE = (KeyError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error, zlib.error)
_PLAIN: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    str: (str,),
    bool: (bool,),
    int | None: (int, NoneType),
    bool | None: (bool, NoneType),
    str | None: (str, NoneType),
}
"""What the fields of facts may be, as far as they are plain."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model at a fixed revision: its facts, and the absolute path an engine is pointed at once it is there.

    `path` is a GGUF file (the first shard) or a folder.
    """

    facts: ModelFacts
    revision: str
    path: str
    lacking: bool = False
    """Whether an earlier release reported it, which read less of the headers than this one plans with."""

    def to_json(self) -> str:
        """JSON of at most 4096 bytes: packed when it must be, without notes when even that is too long."""
        body = dataclasses.asdict(self)
        if not self.lacking:
            del body["lacking"]
        text = json.dumps(body, separators=(",", ":"))
        if len(text.encode()) <= RECORD_LIMIT_BYTES:
            return text
        packed = json.dumps({_PACKED: base64.b85encode(zlib.compress(text.encode(), 9)).decode()})
        if len(packed.encode()) <= RECORD_LIMIT_BYTES:
            return packed
        if self.facts.notes:
            return dataclasses.replace(self, facts=dataclasses.replace(self.facts, notes=())).to_json()
        # What is left is the list of files: only the first is needed to plan and to start.
        first = dataclasses.replace(self.facts, files=self.facts.files[:1], layer_weight_bytes=())
        if first == self.facts:
            raise ValueError("the facts do not fit a termination message")
        return dataclasses.replace(self, facts=first).to_json()

    @staticmethod
    def from_json(text: str) -> Prepared:
        """Parse a report; raises ValueError when it is not one."""
        try:
            body = json.loads(text)
            if _PACKED in body:
                body = json.loads(_unpack(body[_PACKED]))
            facts = facts_from(body["facts"])
            lacking = body.get("lacking", False) is True or _lacks(body["facts"], facts)
            return Prepared(facts, str(body["revision"]), str(body["path"]), lacking)
        except _NOT_ONE as error:
            raise ValueError(f"not a report: {error}") from error


def facts_from(body: dict[str, Any]) -> ModelFacts:
    """Facts from what dataclasses.asdict made of them. Raises KeyError, TypeError or ValueError when they are none."""
    quantization = body["quantization"]
    facts = ModelFacts(
        **{
            **body,
            "format": ModelFormat(body["format"]),
            "task": Task(body["task"]),
            "quantization": None if quantization is None else _quantization(quantization),
            "layers": tuple(
                _checked(LayerGroup(**{**group, "kind": LayerKind(group["kind"])})) for group in body["layers"]
            ),
            "widths": tuple(
                _checked(Width(**{**width, "kind": WidthKind(width["kind"])})) for width in body.get("widths", ())
            ),
            "layer_weight_bytes": tuple(int(size) for size in body["layer_weight_bytes"]),
            "files": tuple(str(name) for name in body["files"]),
            "other_architectures": tuple(str(name) for name in body.get("other_architectures", ())),
            "rope_types": tuple(str(kind) for kind in body.get("rope_types", ())),
            "vision": None if body.get("vision") is None else _checked(Vision(**body["vision"])),
            "abilities": _abilities(body.get("abilities")),
            "reads": None if body.get("reads") is None else _checked(Reads(**body["reads"])),
            "notes": tuple(str(note) for note in body["notes"]),
        }
    )
    return _checked(facts)


def _abilities(told: list[Any] | None) -> tuple[str, ...] | None:
    return None if told is None else tuple(name for name in ABILITIES if name in told)


def _lacks(body: dict[str, Any], facts: ModelFacts) -> bool:
    """Whether a field of the facts, or of what they consist of, is one that the report does not have."""
    parts: list[tuple[Any, Any]] = [(body, facts), *zip(body["layers"], facts.layers, strict=True)]
    parts += zip(body.get("widths", ()), facts.widths, strict=True)
    if facts.quantization is not None:
        parts.append((body["quantization"], facts.quantization))
    if facts.vision is not None:
        parts.append((body["vision"], facts.vision))
    if facts.reads is not None:
        parts.append((body["reads"], facts.reads))
    return any(field.name not in said for said, value in parts for field in dataclasses.fields(value))


def _quantization(body: dict[str, Any]) -> Quantization:
    return _checked(Quantization(**{**body, "stated": tuple(str(word) for word in body.get("stated", ()))}))


def _checked(value: T) -> T:
    """The same, when its plain fields are of their types and its numbers could be sizes. Raises TypeError otherwise."""
    for name, hint in get_type_hints(type(value)).items():
        found, wanted = getattr(value, name), _PLAIN.get(hint)
        number = isinstance(found, int | float)
        if wanted is not None and (type(found) not in wanted or (number and not 0 <= found < LARGEST_NUMBER)):
            raise TypeError(f"{name} is {found!r}")
    return value


def _unpack(packed: str) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(base64.b85decode(packed), LARGEST)
    if unpacker.unconsumed_tail:
        raise ValueError("not a report: too long")
    return text
