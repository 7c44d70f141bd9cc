"""YAML of a manifest as plain data with the line of every value; bounded, safe, JSON's types only.

What Kubernetes would read differently is refused or read its way: duplicate keys are errors, keys are texts, dates
stay texts, a key without a value is an absent key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 20_000
"""Values of one document after aliases are expanded: what stops an alias bomb."""

Path = tuple[str | int, ...]


class YamlTextError(ValueError):
    """Text that is not a bounded, plain YAML document: `line` counts from 1."""

    def __init__(self, line: int, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason
        self.remedy = remedy


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


class _Loader(yaml.SafeLoader):
    """Dates stay text (as JSON has none), and nesting is bounded before Python's stack is."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
        first: [(tag, expression) for tag, expression in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > 2 * MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise YamlTextError(
                mark.line + 1, "the document is nested too deeply.", f"Keep it under {MAX_DEPTH} levels."
            )
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def read_documents(text: str) -> Iterator[Document]:
    """The documents of `text`, empty ones left out; raises YamlTextError at the first that can't be read."""
    if len(text.encode()) > MAX_BYTES:
        raise YamlTextError(1, f"the file is larger than {MAX_BYTES} bytes.", "Split it; a manifest is a few hundred.")
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlTextError(line, f"character #x{error.character:04x} is not allowed.", "Remove it.") from None
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                continue
            lines: dict[Path, int] = {}
            value = _Builder(loader, lines).build(node, (), 0)
            if value is not None:
                yield Document(value, node.start_mark.line + 1, lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise YamlTextError((mark.line if mark else 0) + 1, f"not valid YAML: {what}.", _remedy(text, mark)) from None
    finally:
        loader.dispose()


def _remedy(text: str, mark: Any) -> str:
    lines = text.splitlines()
    if mark and any("\t" in line[: len(line) - len(line.lstrip())] for line in lines[mark.line : mark.line + 1]):
        return "Indent with spaces: YAML allows no tabs."
    return "Check the indentation, the colons and the quotes of this line and the one above."


class _Builder:
    """Turns one node graph into plain data; counts what it makes, so that aliases can't multiply without end."""

    def __init__(self, loader: _Loader, lines: dict[Path, int]) -> None:
        self._loader = loader
        self._lines = lines
        self._made = 0

    def build(self, node: yaml.Node, path: Path, depth: int) -> Any:
        self._made += 1
        line = node.start_mark.line + 1
        if self._made > MAX_NODES:
            raise YamlTextError(line, f"the document has more than {MAX_NODES} values.", "Write out fewer aliases.")
        if depth > MAX_DEPTH:
            raise YamlTextError(line, "the document is nested too deeply.", f"Keep it under {MAX_DEPTH} levels.")
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return self._sequence(node, path, depth)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise YamlTextError(line, f"the YAML tag {node.tag!r} is not supported.", "Remove the tag.")

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        written: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged = self._merge(value_node, path, depth) | merged
                continue
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise YamlTextError(line, f"the key {key_node.value!r} is not a text.", "Put it in quotes.")
            if key in written:
                first = self._lines[(*path, key)]
                raise YamlTextError(line, f"the key {key!r} stands twice, first in line {first}.", "Keep one of them.")
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

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        line = node.start_mark.line + 1
        try:
            value = self._loader.construct_object(node)
        except yaml.constructor.ConstructorError:
            raise YamlTextError(line, f"the YAML tag {node.tag!r} is not supported.", "Remove the tag.") from None
        except (ValueError, OverflowError) as error:
            raise YamlTextError(line, f"{node.value[:40]!r} can't be read: {error}.", "Put a text in quotes.") from None
        if value is not None and not isinstance(value, str | int | float):
            raise YamlTextError(line, f"the YAML tag {node.tag!r} is not supported.", "Remove the tag.")
        return value
