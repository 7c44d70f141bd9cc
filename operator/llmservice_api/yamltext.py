"""YAML of a manifest as plain data with the line of every value; bounded, safe, JSON's types only.

What Kubernetes would read differently is refused or read its way: duplicate keys are errors, keys are texts, dates
stay texts, a key without a value is an absent key; `yamlscalars` says what an unquoted word means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml._yaml import CParser
from yaml.composer import Composer

from llmservice_api.yamlscalars import Scalar, plain_value

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 20_000
"""Values of one document after aliases are expanded: what stops an alias bomb."""
SHOWN = 80
"""Characters of a name or value that a message shows."""

_TAGS = "tag:yaml.org,2002:"
_MAPPING, _SEQUENCE, _TEXT, _PLAIN = f"{_TAGS}map", f"{_TAGS}seq", f"{_TAGS}str", "plain"

Path = tuple[str | int, ...]


class YamlTextError(ValueError):
    """Text that is not a bounded, plain YAML document: `line` counts from 1, `path` leads to the value to blame."""

    def __init__(self, line: int, reason: str, remedy: str, path: Path = ()) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason
        self.remedy = remedy
        self.path = path


@dataclass(frozen=True, slots=True)
class Document:
    """One document: `value` of dict, list, str, int, float, bool; `lines` maps a path to its key's or item's line."""

    value: Any
    line: int
    lines: dict[Path, int] = field(default_factory=dict)

    def line_of(self, path: Path) -> int:
        """The line of `path`, or of its nearest ancestor that was written."""
        for end in range(len(path), 0, -1):
            if (line := self.lines.get(path[:end])) is not None:
                return line
        return self.line


class _Loader(Composer, CParser):
    """libyaml's parser, ten times as fast as Python's; nesting is bounded before the stack is."""

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        self.depth = 0
        self.composed = 0

    def compose_document(self) -> Any:
        self.composed = 0
        return super().compose_document()

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.composed += 1
        if self.composed > 2 * MAX_NODES:  # keys too
            raise _too_many(self.peek_event().start_mark.line + 1)  # type: ignore[union-attr]
        if self.depth > 2 * MAX_DEPTH:
            line: int = self.peek_event().start_mark.line + 1  # type: ignore[union-attr]
            raise YamlTextError(line, "the document is nested too deeply.", f"Keep it under {MAX_DEPTH} levels.")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        """The tag of a node that has none: `_PLAIN` for unquoted words, which `plain_value` reads."""
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _TEXT
        return _MAPPING if kind is yaml.MappingNode else _SEQUENCE

    def descend_resolver(self, *_: Any) -> None:
        """No tags depend on where a node stands."""

    def ascend_resolver(self) -> None:
        """See above."""


def read_documents(text: str) -> Iterator[Document]:
    """The documents of `text`, empty ones left out; raises YamlTextError at the first that can't be read."""
    size = len(text.encode())
    if size > MAX_BYTES:
        raise YamlTextError(1, f"the file is larger than {MAX_BYTES} bytes.", "Split it; a manifest is a few hundred.")
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                continue
            lines: dict[Path, int] = {}
            value = _Builder(lines).build(node, (), 0)
            if value is not None:
                yield Document(value, node.start_mark.line + 1, lines)
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        raise YamlTextError(line, f"character #x{int(error.character):04x} is not allowed.", "Remove it.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise YamlTextError((mark.line if mark else 0) + 1, f"not valid YAML: {what}.", _remedy(text, mark)) from None
    finally:
        loader.dispose()


def _too_many(line: int) -> YamlTextError:
    return YamlTextError(line, f"the document has more than {MAX_NODES} values.", "Write fewer values and aliases.")


def _remedy(text: str, mark: Any) -> str:
    lines = text.splitlines()
    if mark and any("\t" in line[: len(line) - len(line.lstrip())] for line in lines[mark.line : mark.line + 1]):
        return "Indent with spaces: YAML allows no tabs."
    return "Check the indentation, the colons and the quotes of this line and the one above."


class _Builder:
    """Turns one node graph into plain data; counts what it makes, so that aliases can't multiply without end."""

    def __init__(self, lines: dict[Path, int]) -> None:
        self._lines = lines
        self._made = 0

    def build(self, node: yaml.Node, path: Path, depth: int) -> Any:
        self._made += 1
        line = node.start_mark.line + 1
        if self._made > MAX_NODES:
            raise _too_many(line)
        if depth > MAX_DEPTH:
            raise YamlTextError(line, "the document is nested too deeply.", f"Keep it under {MAX_DEPTH} levels.")
        if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
            return self._sequence(node, path, depth)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, path)
        raise _bad_tag(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        written: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        merges = 0  # the line of `<<`
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _PLAIN and key_node.value == "<<":
                if merges:
                    raise _twice("<<", line, merges)
                merges, merged = line, self._merge(value_node, path, depth)
                continue
            key = _key(key_node, path)
            if key in written:
                raise _twice(key, line, self._lines[(*path, key)])
            self._lines[(*path, key)] = line
            written[key] = self.build(value_node, (*path, key), depth + 1)
        return {key: value for key, value in (merged | written).items() if value is not None}

    def _merge(self, node: yaml.Node, path: Path, depth: int) -> dict[str, Any]:
        value = self.build(node, (*path, "<<"), depth + 1)
        if not isinstance(value, dict):
            raise YamlTextError(node.start_mark.line + 1, "'<<' merges one mapping.", "Give one alias of a mapping.")
        for key in value:
            self._lines.setdefault((*path, key), node.start_mark.line + 1)
        return value

    def _sequence(self, node: yaml.SequenceNode, path: Path, depth: int) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self._lines[(*path, index)] = item.start_mark.line + 1
            items.append(self.build(item, (*path, index), depth + 1))
        return items


def _key(node: yaml.Node, path: Path) -> str:
    try:
        key = _scalar(node, path) if isinstance(node, yaml.ScalarNode) else None
    except YamlTextError:
        key = None
    if not isinstance(key, str):
        shown = f" {node.value[:SHOWN]!r}" if isinstance(node, yaml.ScalarNode) else ""
        raise YamlTextError(node.start_mark.line + 1, f"the key{shown} is not a text.", "Put it in quotes.")
    return key


def _scalar(node: yaml.ScalarNode, path: Path) -> Scalar:
    """A quoted scalar, or one with !!str, is text; an unquoted one means what all readers agree on."""
    if node.tag == _TEXT:
        return str(node.value)
    if node.tag != _PLAIN:
        raise _bad_tag(node, path)
    try:
        return plain_value(node.value)
    except ValueError as error:
        shown = node.value[:SHOWN] + ("..." if len(node.value) > SHOWN else "")
        raise YamlTextError(
            node.start_mark.line + 1,
            f"{shown} can't be read: {error}.",
            "Write a decimal number, true or false; put a text in quotes.",
            path,
        ) from None


def _twice(key: str, line: int, first: int) -> YamlTextError:
    return YamlTextError(line, f"the key {key[:SHOWN]!r} stands twice, first in line {first}.", "Keep one of them.")


def _bad_tag(node: yaml.Node, path: Path) -> YamlTextError:
    shown = f"!!{node.tag.removeprefix(_TAGS)}" if node.tag.startswith(_TAGS) else node.tag
    return YamlTextError(
        node.start_mark.line + 1, f"the YAML tag {shown[:SHOWN]!r} is not supported.", "Remove the tag.", path
    )
