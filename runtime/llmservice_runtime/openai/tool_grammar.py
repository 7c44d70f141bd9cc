"""Grammars that hold an answer to valid tool calls, in llguidance's Lark dialect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from llmservice_runtime.openai.params import bounded
from llmservice_runtime.openai.requests.chat import Tool
from llmservice_runtime.openai.tool_formats import ToolFormat
from llmservice_runtime.protocol.engine import Grammar, GrammarKind

TEXT = r"TEXT: /(.|\n)*/"
THINK = 'think[lazy]: TEXT "</think>"'


class Calls(StrEnum):
    """Whether the answer may or must call."""

    AUTO = "auto"
    REQUIRED = "required"


def tool_grammar(fmt: ToolFormat, tools: Sequence[Tool], calls: Calls, parallel: bool, thinking: bool) -> Grammar:
    """The grammar of an answer with these tools. `thinking` = a block that ends with </think> comes first.

    An answer without calls stays free text; once a call begins, its name is one of the tools and its arguments match
    that tool's schema.
    """
    rules = [*_objects(fmt, tools), TEXT]
    begin = f"<[{fmt.begin_token}]>" if fmt.begin_token is not None else quoted(fmt.begin)
    if fmt.in_list:
        more = f' ("{fmt.separator}" object)*' if parallel else ""
        block = f'"["  object{more} "]"'
    else:
        block = f'"\\n" object "\\n" {quoted(fmt.end)}' if fmt.end else "object"
    if calls is Calls.REQUIRED:
        rules.append(f"answer: {_required(fmt, begin, block, parallel)}")
    else:
        rules += _auto(fmt, begin, block, parallel)
    start = "start: answer"
    if thinking:
        start = 'start: think "\\n"* answer'
        rules.append(THINK)
    return Grammar(GrammarKind.LARK, "\n".join(["%llguidance {}", start, *rules]) + "\n")


def _objects(fmt: ToolFormat, tools: Sequence[Tool]) -> list[str]:
    """One rule per tool: its name spelled out, its arguments by schema."""
    rules = ["object: " + " | ".join(f"object_{number}" for number in range(len(tools)))]
    for number, tool in enumerate(tools):
        head = f'{{"name": {json.dumps(tool.function.name)}, "{fmt.key}": '
        rules.append(f'object_{number}: {quoted(head)} arguments_{number} "}}"')
        rules.append(f"arguments_{number}: %json {json.dumps(_schema(tool.function.parameters))}")
    return rules


def _schema(parameters: dict[str, Any] | None) -> dict[str, Any]:
    """Arguments are an object, whatever the schema leaves open."""
    return bounded({"type": "object", **(parameters or {"properties": {}, "additionalProperties": False})})


def _required(fmt: ToolFormat, begin: str, block: str, parallel: bool) -> str:
    if fmt.bare:
        return block + (f" ({quoted(fmt.separator)} object)*" if parallel else "")
    if fmt.in_list or not parallel:
        return f"{begin} {block}"
    return f"{begin} {block} ({quoted(fmt.separator)} {begin} {block})*"


def _auto(fmt: ToolFormat, begin: str, block: str, parallel: bool) -> list[str]:
    """Free text until `begin`, then a call. A lazy rule ends at the first `begin`, so text can't run over one."""
    if fmt.bare:
        # The first character decides: a brace starts a call.
        more = f" ({quoted(fmt.separator)} object)*" if parallel else ""
        return [f'answer: {block}{more} | FREE | ""', r"FREE: /[^{\s](.|\n)*/"]
    head = f"head: TEXT {begin}" if fmt.begin_token is not None else f"head[lazy]: TEXT {begin}"
    many = parallel and not fmt.in_list
    return [f"answer: {'(head ' + block + ')*' if many else '(head ' + block + ')?'} TEXT", head]


def held_after_thinking(grammar: Grammar) -> Grammar | None:
    """The same constraint for the answer that follows a thinking block; None when it can't be nested."""
    if grammar.kind is GrammarKind.LARK:
        return None
    if grammar.kind is GrammarKind.REGEX:
        body = "/" + grammar.source.replace("/", "\\/") + "/"
    else:
        body = "%json " + (grammar.source or '{"type": "object"}')
    source = "\n".join(["%llguidance {}", 'start: think "\\n"* answer', f"answer: {body}", TEXT, THINK]) + "\n"
    return Grammar(GrammarKind.LARK, source)


def quoted(text: str) -> str:
    """A Lark string: the same escapes as JSON's."""
    return json.dumps(text)
