"""The markup of a model's tool calls, learned from its chat template: calls are rendered, and what stands around their
names, keys and values is the markup. A template whose calls can't be read back so has no format here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from llmservice_runtime.openai.events import Message
from llmservice_runtime.openai.reasoning_formats import THINK
from llmservice_runtime.openai.requests.chat import Tool
from llmservice_runtime.openai.templates import ChatTemplate, TemplateError
from llmservice_runtime.openai.tool_formats import ID, INDEX, TAG, Pairs, ToolFormat, atoms, common, known_format
from llmservice_runtime.openai.tool_parser import ToolParser
from llmservice_runtime.protocol.engine import Tokenizer
from llmservice_runtime.wire.errors import unsupported

Render = Callable[[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]], bool], str]
"""(messages, tools, add_generation_prompt) -> the prompt. TemplateError when the template refuses them."""

NAMES = ("alpha_probe", "beta_probe")
FIRST: dict[str, Any] = {"key_one": "quiet words", "key_two": 424242}
SECOND: dict[str, Any] = {"key_one": "other words", "key_two": 515151}
HARD: dict[str, Any] = {"key_one": 'Köln: "a" \\ <b> &', "key_two": -7, "key_three": {"a": [True, None, "x", 1.5]}}
"""Nothing that markup could be mistaken for, but everything that must be escaped."""
ANSWER = "PlainAnswer"
IDS = ("probecall", "probecal2")
LATE_ID = re.compile(r',\s*"[a-z_]*id"\s*:\s*"' + ID + '"')

_PROPERTIES = {
    "key_one": {"type": "string", "description": "One."},
    "key_two": {"type": "integer", "description": "Two."},
    "key_three": {"type": "object", "description": "Three."},
}
_PARAMETERS = {"type": "object", "properties": _PROPERTIES, "required": ["key_one"]}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "A probe.", "parameters": _PARAMETERS}}
    for name in NAMES
]


class NoFormatError(ValueError):
    """The calls that this template writes can't be read back; the message says why."""


def tool_format(template: ChatTemplate, tokenizer: Tokenizer) -> ToolFormat:
    """The format that this template teaches; ApiError 400 naming `tools` and the reason when there is none."""
    if not template.takes_tools:
        raise unsupported(
            "tools", "this model's chat template does not take tools; serve a model trained for tool calls."
        )
    known = _known.get(template)
    if known is None:

        def render(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], turn: bool) -> str:
            return template.render(messages, tools=tools, add_generation_prompt=turn)

        try:
            known = tokenized(learn(render), tokenizer)
        except NoFormatError as error:
            listed = known_format(template.source)
            known = tokenized(listed, tokenizer) if listed else str(error)
        _known[template] = known
    if isinstance(known, str):
        reason = f"this model's chat template writes tool calls in a form that this server can't read: {known}."
        raise unsupported("tools", reason)
    return known


def is_learned(template: ChatTemplate) -> bool:
    """Whether `tool_format` has its answer for this template."""
    return template in _known


_known: WeakKeyDictionary[ChatTemplate, ToolFormat | str] = WeakKeyDictionary()
"""Of each template what was learned, or why nothing could be."""


def tokenized(fmt: ToolFormat, tokenizer: Tokenizer) -> ToolFormat:
    """The format with its special tokens known, and without one that ends the answer."""
    close = fmt.close
    special: list[tuple[str, int]] = []
    for tag in dict.fromkeys(TAG.findall("\0".join(fmt.markup))):
        tokens = tokenizer.encode(tag, add_special=False, parse_special=True)
        if len(tokens) != 1 or tokenizer.decode(tokens, skip_special=True):
            continue
        if tokens[0] in tokenizer.end_tokens:
            close = close.partition(tag)[0].rstrip()
        else:
            special.append((tag, tokens[0]))
    return replace(fmt, close=close, special=tuple(special))


def learn(render: Render) -> ToolFormat:
    """The format that the template teaches. NoFormatError when there is none that can be read."""
    user = {"role": "user", "content": "Begin."}
    prompt = _rendered(render, [user], True)
    plain = _rendered(render, [user, {"role": "assistant", "content": ANSWER}], False)
    if ANSWER not in plain:
        raise NoFormatError("it does not write what an assistant said")
    one = _called(render, user, prompt, [FIRST])
    try:
        two: str | None = _called(render, user, prompt, [FIRST, SECOND])
    except NoFormatError:
        two = None
    if two is not None and not all(name in two for name in NAMES):
        two = None
    if one.count(NAMES[0]) != 1:
        raise NoFormatError("it does not write the calls of an answer, or not once each")
    begin = _boundary(one, prompt, plain)
    fmt = _derive(one, two, begin, plain)
    _prove(fmt, render, user, prompt, plain[plain.rindex(ANSWER) :])
    return fmt


def _rendered(render: Render, messages: Sequence[Mapping[str, Any]], turn: bool) -> str:
    try:
        return render(messages, TOOLS, turn)
    except TemplateError as error:
        raise NoFormatError(str(error)) from error


def _called(render: Render, user: Mapping[str, Any], prompt: str, calls: Sequence[Mapping[str, Any]]) -> str:
    """The prompt after an answer of these calls; some templates want content to be null, others a text."""
    made = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": dict(arguments)}}
        for call_id, name, arguments in zip(IDS, NAMES, calls, strict=False)
    ]
    for content in ("", None):
        try:
            text = _rendered(render, [user, {"role": "assistant", "content": content, "tool_calls": made}], False)
        except NoFormatError as error:
            refused = error
            continue
        begin = max(text.rfind("Begin."), common(text, prompt))
        head, tail = text[:begin], text[begin:]
        for call_id in IDS:
            tail = tail.replace(call_id, ID)
        # The definitions of the tools name them too, so only what follows question and definitions is looked at.
        return "\0" * len(head) + tail
    raise refused


def _boundary(called: str, prompt: str, plain: str) -> int:
    """Where the answer begins: as far as both other prompts go along, and after its thinking."""
    start = called.rfind("\0") + 1
    name = called.index(NAMES[0])
    ends = [start + common(called[start:name], other[start:]) for other in (prompt, plain)]
    thought = called.rfind(THINK.close, start, name)
    return max(*ends, thought + len(THINK.close) if thought >= 0 else 0)


def _derive(one: str, two: str | None, begin: int, plain: str) -> ToolFormat:
    """The markup, from one call and (where the template writes them) two."""
    name = one.index(NAMES[0])
    after = name + len(NAMES[0])
    ending = plain[plain.rindex(ANSWER) + len(ANSWER) :]
    named, rest, pairs = _arguments(one[after:], FIRST)
    if two is None:
        # Only ever one: all that stands before the name is its head.
        return ToolFormat(one[begin:name].lstrip(), named, _without_end(rest, ending), pairs=pairs)
    second = two.rindex(NAMES[1])
    _, between, _ = _arguments(two[two.index(NAMES[0]) + len(NAMES[0]) : second], FIRST)
    named_too, rest_too, _ = _arguments(two[second + len(NAMES[1]) :], SECOND)
    tail = between[: common(between, rest_too)]
    head = _common_end(between[len(tail) :] if tail else between, one[begin:name])
    before = one[begin:name][: len(one[begin:name]) - len(head.lstrip())]
    blank = len(tail) - len(tail.rstrip())
    separator = between[len(tail) - blank : len(between) - len(head)]
    if not tail.strip() and not pairs and not head.strip():
        raise NoFormatError("nothing marks where a call begins and ends")
    separator += head[: len(head) - len(head.lstrip())]
    return ToolFormat(
        head=_alike(head.lstrip(), one[begin:name][len(before) :].lstrip()),
        named=_alike(named, named_too),
        tail=LATE_ID.sub("", tail.rstrip()),
        open=before.lstrip(),
        close=_without_end(rest[len(tail) - blank :], ending),
        separator=separator,
        pairs=pairs,
        parallel=True,
    )


def _arguments(text: str, arguments: Mapping[str, Any]) -> tuple[str, str, Pairs | None]:
    """Markup between a name and its arguments, what follows the arguments, and how they are written."""
    brace = text.find("{")
    while brace >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, brace)
        except ValueError:
            value, end = None, 0
        if value == arguments:
            return text[:brace], text[end:], None
        brace = text.find("{", brace + 1)
    return _key_values(text, arguments)


def _key_values(text: str, arguments: Mapping[str, Any]) -> tuple[str, str, Pairs | None]:
    """The same where every argument stands in markup of its own."""
    places: list[int] = []
    at = 0
    for word in (w for key, value in arguments.items() for w in (key, str(value))):
        at = text.find(word, at)
        if at < 0:
            raise NoFormatError("it writes arguments neither as JSON nor one by one")
        places += [at, at + len(word)]
        at += len(word)
    first, between, last = text[: places[0]], text[places[3] : places[4]], text[places[7] :]
    key = _common_end(between, first).lstrip()
    end = between[: len(between) - len(key)].rstrip(" ")
    if not key.strip() or not end.strip() or not last.lstrip().startswith(end.strip()):
        raise NoFormatError("nothing marks where an argument begins and ends")
    named, rest = first[: len(first) - len(key)], last[last.index(end.strip()) + len(end.strip()) :]
    blank = end[len(end.rstrip()) :]
    if rest.startswith(blank):
        rest = rest[len(blank) :]
    else:  # it stands between two arguments only
        key, end, named = blank + key, end.rstrip(), named.removesuffix(blank)
    return named, rest, Pairs(key, text[places[1] : places[2]], text[places[5] : places[6]], end)


def _without_end(text: str, ending: str) -> str:
    """Markup without what ends any answer."""
    markup = text[: len(text) - len(_common_end(text, ending))]
    first = TAG.search(ending)
    if first is not None:
        markup = markup.partition(first[0])[0]
    return markup.rstrip()


def _alike(one: str, other: str) -> str:
    """What two calls write in the same place; numbers that differ are a call's own."""
    if one == other:
        return one
    if re.sub(r"\d+", INDEX, one) != re.sub(r"\d+", INDEX, other):
        raise NoFormatError("its calls are not all written alike")
    return re.sub(r"\d+", INDEX, one)


def _common_end(one: str, other: str) -> str:
    """The common end, in whole tags; numbers may differ."""
    size = 0
    for a, b in zip(reversed(atoms(one)), reversed(atoms(other)), strict=False):
        if a != b and not (a.isdigit() and b.isdigit()):
            break
        size += len(a)
    return one[len(one) - size :]


def _prove(fmt: ToolFormat, render: Render, user: Mapping[str, Any], prompt: str, ending: str) -> None:
    """Calls with all that must be escaped, and one without arguments, come back as they were."""
    if not fmt.begin.strip() or fmt.begin[0] not in "<[{" or ID in fmt.begin or INDEX in fmt.begin:
        raise NoFormatError("nothing marks where a call begins")
    if fmt.begin in ending:
        raise NoFormatError("its calls begin with what ends an answer")
    tried: list[list[dict[str, Any]]] = [[HARD, {}], [SECOND, FIRST]] if fmt.parallel else [[HARD], [{}]]
    for calls in tried:
        text = _called(render, user, prompt, calls)
        begin = max(text.rfind("\0") + 1, text.rfind(fmt.begin, 0, text.index(NAMES[0])))
        thought = text.rfind(THINK.close, begin)
        answer = LATE_ID.sub("", text[thought + len(THINK.close) if thought >= 0 else begin :]).replace(ID, IDS[0])
        parser = ToolParser(fmt, [Tool.model_validate(tool) for tool in TOOLS])
        message = Message()
        message.add([*parser.feed(answer), *parser.finish()])
        try:
            found = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message.calls]
        except ValueError as error:
            raise NoFormatError("what it writes can't be read back") from error
        if found != list(zip(NAMES, calls, strict=False)):
            raise NoFormatError("what it writes can't be read back")
