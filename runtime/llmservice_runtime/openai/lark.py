"""Markup in llguidance's Lark dialect, and grammars for what follows a model's thinking."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmservice_runtime.openai.reasoning_formats import ReasoningFormat
from llmservice_runtime.openai.tool_formats import HOLES
from llmservice_runtime.protocol.engine import Grammar, GrammarKind

TEXT = r"TEXT: /(.|\n)*/"


@dataclass(frozen=True, slots=True)
class Lead:
    """What comes before the answer that a grammar describes: symbols in front of `answer`, and their rules."""

    symbols: str = ""
    rules: tuple[str, ...] = ()


NO_LEAD = Lead()


def lead(fmt: ReasoningFormat | None, thinking: bool, free: bool) -> Lead:
    """`thinking` = the prompt has opened it. `free` = the answer may be any text, so markup may come before it.

    An answer that is held to a form thinks only where the prompt or the markup before any answer says so.
    """
    if fmt is None:
        return NO_LEAD
    special = dict(fmt.special)
    if not thinking and not fmt.plain and not (free and special):
        return NO_LEAD  # free text may hold markup that is no special token
    symbols = "think" if thinking else f"({literal(fmt.open, special)} think)?"
    if fmt.plain:
        symbols += f" ({literal(fmt.plain, special)}){'?' if free else ''}"
    rest = literal(fmt.close[len(fmt.first) :], special)
    return Lead(symbols, (until("thought", fmt.first, special), f'think: thought {rest} "\\n"*'))


def literal(markup: str, special: Mapping[str, int]) -> str:
    """Markup as it stands: strings, special tokens by their ids, and patterns where a call's own number stands."""
    found = []
    for part in re.split("(" + "|".join([*map(re.escape, special), *HOLES]) + ")", markup):
        if part in special:
            found.append(f"<[{special[part]}]>")
        elif part in HOLES:
            found.append(f"/{HOLES[part].pattern}/")
        elif part:
            found.append(quoted(part))
    return " ".join(found)


def until(name: str, tag: str, special: Mapping[str, int]) -> str:
    """The rule of any text up to the first such tag."""
    return f"{name}{'' if tag in special else '[lazy]'}: TEXT {literal(tag, special)}"


def written(before: Lead, rules: Sequence[str]) -> Grammar:
    """The grammar of an `answer` by these rules."""
    start = f"start: {before.symbols} answer" if before.symbols else "start: answer"
    return Grammar(GrammarKind.LARK, "\n".join(["%llguidance {}", start, TEXT, *rules, *before.rules]) + "\n")


def held_after(grammar: Grammar, before: Lead) -> Grammar | None:
    """The same constraint for the answer that follows; None when it can't be nested."""
    if grammar.kind is GrammarKind.LARK:
        return None
    if grammar.kind is GrammarKind.REGEX:
        body = "/" + grammar.source.replace("/", "\\/") + "/"
    else:
        body = "%json " + (grammar.source or '{"type": "object"}')
    return written(before, [f"answer: {body}"])


def quoted(text: str) -> str:
    """A Lark string: the same escapes as JSON's."""
    return json.dumps(text)
