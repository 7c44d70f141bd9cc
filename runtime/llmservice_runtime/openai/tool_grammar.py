"""Grammars that hold an answer to valid tool calls, in llguidance's Lark dialect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from llmservice_runtime.openai.lark import NO_LEAD, Lead, literal, quoted, until, written
from llmservice_runtime.openai.params import bounded
from llmservice_runtime.openai.requests.chat import Tool
from llmservice_runtime.openai.tool_formats import Pairs, ToolFormat
from llmservice_runtime.openai.tool_values import followed, kinds
from llmservice_runtime.protocol.engine import Grammar

KEY = r"KEY: /[^<>\"\n]{1,64}/"


class Calls(StrEnum):
    """Whether the answer may or must call."""

    AUTO = "auto"
    REQUIRED = "required"


def tool_grammar(fmt: ToolFormat, tools: Sequence[Tool], calls: Calls, parallel: bool, lead: Lead = NO_LEAD) -> Grammar:
    """The grammar of an answer with these tools, after what may come before it.

    An answer without calls stays free text; once a call begins, its name is one of the tools and its arguments match
    that tool's schema.
    """
    rules = _Rules(fmt)
    rules.tools(tools)
    many = parallel and fmt.parallel
    if calls is Calls.REQUIRED:
        rules.add("answer", f"{rules.literal(fmt.begin)} {rules.group(many)}")
    else:
        rules.auto(many)
    return written(lead, rules.lines)


class _Rules:
    """The lines of one grammar."""

    def __init__(self, fmt: ToolFormat) -> None:
        self.lines: list[str] = []
        self._fmt = fmt
        self._special = dict(fmt.special)

    def add(self, name: str, body: str) -> None:
        self.lines.append(f"{name}: {body}")

    def literal(self, markup: str) -> str:
        return literal(markup, self._special)

    def group(self, many: bool) -> str:
        """What follows `begin`: the calls, to their end."""
        fmt = self._fmt
        more = f"({self.literal(fmt.separator + fmt.head)} call)*" if many else ""
        return f"{self.literal(fmt.first)} call {more} {self.literal(fmt.close)}"

    def auto(self, many: bool) -> None:
        """Free text until `begin`, then a call. A lazy rule ends at the first `begin`, so text can't run over one."""
        fmt = self._fmt
        if fmt.bare:
            # The first character decides: a brace (or bracket) starts a call.
            opening = fmt.begin[0]
            self.add("answer", f'{self.literal(fmt.begin)} {self.group(many)} | FREE | ""')
            self.lines.append(rf"FREE: /[^\{opening}\s](.|\n)*/")
            return
        self.lines.append(until("head", fmt.begin, self._special))
        again = "*" if many and not fmt.wrapped else "?"
        self.add("answer", f"(head {self.group(many and fmt.wrapped)}){again} TEXT")

    def tools(self, tools: Sequence[Tool]) -> None:
        """One rule per tool: its name spelled out, its arguments by schema."""
        fmt = self._fmt
        self.add("call", " | ".join(f"call_{number}" for number in range(len(tools))))
        for number, tool in enumerate(tools):
            head, tail = self.literal(tool.function.name + fmt.named), self.literal(fmt.tail)
            self.add(f"call_{number}", f"{head} arguments_{number} {tail}")
            schema = _schema(tool.function.parameters)
            if fmt.pairs is None:
                self.add(f"arguments_{number}", f"%json {json.dumps(bounded(schema))}")
            else:
                self._pairs(fmt.pairs, schema, number)
        if fmt.pairs is not None:
            self._free_text(fmt.pairs.end)

    def _pairs(self, pairs: Pairs, schema: Mapping[str, Any], number: int) -> None:
        """The arguments of one tool, in the order of its schema; any, where the schema does not list them."""
        properties = schema.get("properties")
        if not isinstance(properties, Mapping):
            anything = f"{self.literal(pairs.text)} text"
            if pairs.json != pairs.text:
                anything = f"({anything} | {self.literal(pairs.json)} %json {{}} {self.literal(pairs.end)})"
            self.add(f"arguments_{number}", f"({self.literal(pairs.key)} KEY {anything})*")
            return
        required = schema.get("required") or ()
        shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        names = []
        for at, (key, value) in enumerate(properties.items()):
            name = f"argument_{number}_{at}"
            names.append(name if key in required else f"{name}?")
            self.add(name, self._value(pairs, key, followed(value, schema), shared))
        self.add(f"arguments_{number}", " ".join(names) or '""')

    def _value(self, pairs: Pairs, key: str, schema: Any, shared: Mapping[str, Any]) -> str:
        """One argument: a text as it stands, one of a list of texts, or JSON by its schema."""
        as_text, as_json = (self.literal(pairs.key + key + markup) for markup in (pairs.text, pairs.json))
        allowed = kinds(schema, shared)
        may_be_text = "string" in allowed
        if allowed == {"string"}:
            options = schema.get("enum", [schema["const"]] if "const" in schema else None)
            if options:
                return f"{as_text} ({' | '.join(map(quoted, options))}) {self.literal(pairs.end)}"
            return f"{as_text} text"
        if may_be_text and pairs.text == pairs.json:
            return f"{as_text} text"
        described = {**shared, **schema} if isinstance(schema, Mapping) else {}
        typed = f"{as_json} %json {json.dumps(bounded(described))} {self.literal(pairs.end)}"
        return f"{as_text} text | {typed}" if may_be_text else typed

    def _free_text(self, end: str) -> None:
        """Text up to what ends a value; white space around it belongs to the markup."""
        mark = self.literal(end.strip())
        after = self.literal(end[len(end.rstrip()) :])
        self.lines.append(KEY)
        if mark.startswith("<["):
            self.add("text", f"TEXT {mark} {after}")
        else:
            self.lines.append(f"until[lazy]: TEXT {mark}")
            self.add("text", f"until {after}")


def _schema(parameters: dict[str, Any] | None) -> dict[str, Any]:
    """Arguments are an object, whatever the schema leaves open."""
    return {"type": "object", **(parameters or {"properties": {}, "additionalProperties": False})}
