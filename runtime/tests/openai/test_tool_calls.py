"""Reading tool calls: however the text is cut, the calls are the same; grammars hold models to what can be read."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from llmservice_runtime.openai.requests.chat import Tool
from llmservice_runtime.openai.templates import ChatTemplate
from llmservice_runtime.openai.tool_formats import HERMES, LLAMA3, MISTRAL, ToolFormat, tool_format
from llmservice_runtime.openai.tool_grammar import Calls, held_after_thinking, tool_grammar
from llmservice_runtime.openai.tool_parser import CallArguments, CallStart, Content, ToolParser
from llmservice_runtime.protocol.engine import Grammar, GrammarKind
from llmservice_runtime.wire.errors import ApiError

TOOLS = [
    Tool.model_validate({"type": "function", "function": {"name": "now"}}),
    Tool.model_validate(
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            },
        }
    ),
]
FORMATS = {fmt.name: fmt for fmt in (HERMES, LLAMA3, MISTRAL)}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=8), values, max_size=4)


def written(fmt: ToolFormat, calls: list[tuple[str, Any]]) -> str:
    texts = [json.dumps({"name": name, fmt.key: arguments}, ensure_ascii=False) for name, arguments in calls]
    if fmt.in_list:
        return f"{fmt.begin}[{fmt.separator.join(texts)}]"
    if fmt.bare:
        return fmt.separator.join(texts)
    return fmt.separator.join(f"{fmt.begin}\n{text}\n{fmt.end}" for text in texts)


def read(fmt: ToolFormat, pieces: list[str]) -> tuple[str, list[tuple[str, str]]]:
    parser = ToolParser(fmt)
    content = ""
    names: list[str] = []
    arguments: dict[int, str] = {}
    for event in [event for piece in pieces for event in parser.feed(piece)] + parser.finish():
        match event:
            case Content(text):
                content += text
            case CallStart(index, call_id, name):
                assert index == len(names) and len(call_id) == 9
                names.append(name)
                arguments[index] = ""
            case CallArguments(index, text):
                assert text
                arguments[index] += text
    return content, [(name, arguments[index]) for index, name in enumerate(names)]


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(st.tuples(st.sampled_from(["now", "weather", "f.g-h_1"]), objects), min_size=1, max_size=3),
    st.lists(st.integers(0, 1000), max_size=12),
)
def test_calls_survive_any_cut(name: str, calls: list[tuple[str, Any]], places: list[int]) -> None:
    fmt = FORMATS[name]
    content, found = read(fmt, cut(written(fmt, calls), places))
    assert content == ""
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls


@given(
    st.sampled_from(sorted(FORMATS)),
    st.text(alphabet='ab {}[]"\\<tool_cal/>\n:,', max_size=60),
    st.lists(st.integers(0, 1000)),
)
def test_any_text_reads_the_same_however_it_is_cut(name: str, text: str, places: list[int]) -> None:
    assert read(FORMATS[name], cut(text, places)) == read(FORMATS[name], [text])


@given(st.text(max_size=40), st.lists(st.integers(0, 1000), max_size=5))
def test_text_without_calls_is_content(text: str, places: list[int]) -> None:
    assert read(HERMES, cut(text, places)) == (text, [])


def test_content_before_a_call_is_kept_and_white_space_is_not() -> None:
    call = written(HERMES, [("now", {})])
    assert read(HERMES, ["Look: " + call]) == ("Look: ", [("now", "{}")])
    assert read(HERMES, ["\n\n" + call]) == ("", [("now", "{}")])


class _Bytes:
    """A vocabulary of bytes, one special token and an end."""

    eos_token_id = 257
    bos_token_id = None
    tokens = [bytes([i]) for i in range(256)] + [b"\xff<|marker|>", b"\xff</s>"]
    special_token_ids = [256, 257]  # noqa: RUF012

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


@pytest.fixture(scope="module")
def vocabulary() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()))


def accepts(vocabulary: LLTokenizer, grammar: Grammar, text: str) -> bool:
    """Whether the whole text is an answer that the grammar allows."""
    matcher = LLMatcher(vocabulary, LLMatcher.grammar_from_lark(grammar.source), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = list(text.encode())
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


GOOD: list[tuple[str, Any]] = [("weather", {"city": "Köln"})]
BAD: list[list[tuple[str, Any]]] = [[("weather", {"town": 1})], [("other", {})], [("now", {"x": 1})]]


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("thinking", [False, True])
def test_grammars_allow_valid_calls_only(vocabulary: LLTokenizer, fmt: ToolFormat, thinking: bool) -> None:
    thought = "let me see</think>\n\n" if thinking else ""
    for calls in Calls:
        grammar = tool_grammar(fmt, TOOLS, calls, parallel=True, thinking=thinking)
        assert accepts(vocabulary, grammar, thought + written(fmt, GOOD))
        assert accepts(vocabulary, grammar, thought + written(fmt, [*GOOD, ("now", {})]))
        for bad in BAD:
            assert not accepts(vocabulary, grammar, thought + written(fmt, bad))
    free, forced = (tool_grammar(fmt, TOOLS, calls, True, thinking) for calls in Calls)
    assert accepts(vocabulary, free, thought + "It is sunny.\nVery.")
    assert not accepts(vocabulary, forced, thought + "It is sunny.")


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("calls", Calls)
def test_one_call_when_parallel_calls_are_off(vocabulary: LLTokenizer, fmt: ToolFormat, calls: Calls) -> None:
    grammar = tool_grammar(fmt, TOOLS, calls, parallel=False, thinking=False)
    assert accepts(vocabulary, grammar, written(fmt, GOOD))
    if calls is Calls.REQUIRED:
        assert not accepts(vocabulary, grammar, written(fmt, [*GOOD, ("now", {})]))


def test_text_may_come_before_a_call(vocabulary: LLTokenizer) -> None:
    grammar = tool_grammar(HERMES, TOOLS, Calls.AUTO, parallel=True, thinking=False)
    assert accepts(vocabulary, grammar, "Let me look.\n" + written(HERMES, GOOD))


def test_a_format_after_thinking(vocabulary: LLTokenizer) -> None:
    schema = Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object", "properties": {"a": {"type": "integer"}}}')
    nested = held_after_thinking(schema)
    assert nested is not None
    assert accepts(vocabulary, nested, 'hm {"a": "x"}</think>\n\n{"a": 1}')
    assert not accepts(vocabulary, nested, 'hm</think>{"a": "x"}')
    pattern = held_after_thinking(Grammar(GrammarKind.REGEX, "a/b+"))
    assert pattern is not None
    assert accepts(vocabulary, pattern, "hm</think>a/bb")
    assert held_after_thinking(Grammar(GrammarKind.LARK, "start: /a/")) is None


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
def test_a_marker_that_is_a_special_token(vocabulary: LLTokenizer, fmt: ToolFormat) -> None:
    special = dataclasses.replace(fmt, begin_token=256)
    before, found, after = written(special, GOOD).partition(fmt.begin)
    tokens = [*before.encode(), *([256] if found else []), *after.encode()]
    for calls in Calls:
        grammar = tool_grammar(special, TOOLS, calls, parallel=True, thinking=False)
        matcher = LLMatcher(vocabulary, LLMatcher.grammar_from_lark(grammar.source), log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        assert matcher.try_consume_tokens(tokens) == len(tokens)
        assert matcher.is_accepting()


def test_formats_are_recognised_by_their_template(tokenizer: Any) -> None:
    tools = "{{ tools }}"
    for source, fmt in (
        (tools + "<tool_call></tool_call>", HERMES),
        (tools + "[TOOL_CALLS]", MISTRAL),
        (tools + '{"name": x, "parameters": y}<|eot_id|>', LLAMA3),
    ):
        assert tool_format(ChatTemplate(source), tokenizer()) == fmt
    for source in ("no such thing", tools, tools + "<tool_call><function=f>"):
        with pytest.raises(ApiError) as caught:
            tool_format(ChatTemplate(source), tokenizer())
        assert caught.value.param == "tools"
