"""Reading tool calls: however the text is cut, the calls are the same; grammars hold models to what can be read."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from llmservice_runtime.openai.events import AnswerReader, Message
from llmservice_runtime.openai.lark import held_after, lead
from llmservice_runtime.openai.reasoning import ReasoningReader
from llmservice_runtime.openai.reasoning_formats import THINK, ReasoningFormat
from llmservice_runtime.openai.reasoning_probe import reasoning_format
from llmservice_runtime.openai.requests.chat import Tool
from llmservice_runtime.openai.templates import ChatTemplate
from llmservice_runtime.openai.tool_formats import ID, INDEX, ToolFormat
from llmservice_runtime.openai.tool_grammar import Calls, tool_grammar
from llmservice_runtime.openai.tool_parser import CallArguments, CallStart, Content, ToolParser
from llmservice_runtime.openai.tool_probe import learn, tool_format
from llmservice_runtime.protocol.engine import Grammar, GrammarKind
from llmservice_runtime.wire.errors import ApiError

TOOLS = [
    Tool.model_validate({"type": "function", "function": {"name": "now"}}),
    Tool.model_validate(
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "city": {"type": "string"},
                        "days": {"type": "integer"},
                        "when": {"type": ["object", "null"]},
                        "unit": {"enum": ["C", "F"]},
                    },
                    "required": ["city"],
                    "additionalProperties": False,
                },
            },
        }
    ),
]
HEAD = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content or '' }}{% if m.tool_calls %}"
)
EACH = "{% for t in m.tool_calls %}{% set c = t.function %}"
END = "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
JSON = "{{ c.arguments | tojson }}"
COMMA = "{% if not loop.last %}, {% endif %}"
PAIR = "{% for k, v in c.arguments.items() %}"
VALUE = "{{ v if v is string else v | tojson }}"


def calls_in(before: str, each: str, after: str = "") -> str:
    """A ChatML template that writes calls so."""
    return HEAD + before + EACH + each + "{% endfor %}" + after + END


TEMPLATES = {
    "hermes": calls_in("", '\n<tool_call>\n{"name": "{{ c.name }}", "arguments": ' + JSON + "}\n</tool_call>"),
    "llama3": calls_in(
        "", '{{ raise_exception("one") if not loop.last }}{"name": "{{ c.name }}", "parameters": ' + JSON + "}"
    ),
    "mistral": calls_in(
        "[TOOL_CALLS][", '{"name": "{{ c.name }}", "arguments": ' + JSON + ', "id": "{{ t.id }}"}' + COMMA, "]"
    ),
    "mistral_new": calls_in("", "[TOOL_CALLS]{{ c.name }}[ARGS]" + JSON),
    "mistral_ids": calls_in("", "[TOOL_CALLS]{{ c.name }}[CALL_ID]{{ t.id }}[ARGS]" + JSON),
    "apertus": calls_in("<|tools_prefix|>[", '{"{{ c.name }}": ' + JSON + "}" + COMMA, "]<|tools_suffix|>"),
    "cohere": calls_in(
        "<|START_ACTION|>[\n",
        '    {"tool_call_id": "{{ loop.index0 }}", "tool_name": "{{ c.name }}", "parameters": ' + JSON + "}"
        "{% if not loop.last %},{% endif %}\n",
        "]<|END_ACTION|>",
    ),
    "kimi": calls_in(
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>functions.{{ c.name }}:{{ loop.index0 }}<|tool_call_argument_begin|>"
        + JSON
        + "<|tool_call_end|>",
        "<|tool_calls_section_end|>",
    ),
    "deepseek": calls_in(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ c.name }}\n```json\n" + JSON + "\n```<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    ),
    "functionary": calls_in("", "<function={{ c.name }}>" + JSON + "</function>"),
    "granite": calls_in("<|tool_call|>[", '{"name": "{{ c.name }}", "arguments": ' + JSON + "}" + COMMA, "]"),
    "qwen3_coder": calls_in(
        "",
        "\n<tool_call>\n<function={{ c.name }}>\n"
        + PAIR
        + "<parameter={{ k }}>\n"
        + VALUE
        + "\n</parameter>\n{% endfor %}"
        "</function>\n</tool_call>",
    ),
    "seed": calls_in(
        "",
        "<seed:tool_call>\n<function={{ c.name }}>\n"
        + PAIR
        + "<parameter={{ k }}>{{ v }}</parameter>\n{% endfor %}</function>\n</seed:tool_call>",
    ),
    "glm": calls_in(
        "",
        "\n<tool_call>{{ c.name }}\n"
        + PAIR
        + "<arg_key>{{ k }}</arg_key>\n<arg_value>"
        + VALUE
        + "</arg_value>\n{% endfor %}</tool_call>",
    ),
    "glm_dense": calls_in(
        "",
        "<tool_call>{{ c.name }}"
        + PAIR
        + "<arg_key>{{ k }}</arg_key><arg_value>"
        + VALUE
        + "</arg_value>{% endfor %}</tool_call>",
    ),
    "minimax": calls_in(
        "<minimax:tool_call>\n",
        '<invoke name="{{ c.name }}">\n'
        + PAIR
        + '<parameter name="{{ k }}">'
        + VALUE
        + "</parameter>\n{% endfor %}</invoke>\n",
        "</minimax:tool_call>",
    ),
    "dsml": calls_in(
        "<｜DSML｜function_calls>\n",
        '<｜DSML｜invoke name="{{ c.name }}">\n'
        + PAIR
        + "<｜DSML｜parameter name=\"{{ k }}\" string=\"{{ 'true' if v is string else 'false' }}\">"
        + VALUE
        + "</｜DSML｜parameter>\n{% endfor %}</｜DSML｜invoke>\n",
        "</｜DSML｜function_calls>",
    ),
}
TEMPLATES["tools_last"] = (
    TEMPLATES["hermes"]
    .replace("{% if tools %}{{ tools | tojson }}{% endif %}", "")
    .replace(
        "{{ m.content or '' }}",
        "{{ m.content or '' }}{% if tools and m.role == 'user' %}{{ tools | tojson }}{% endif %}",
    )
)
UNREADABLE = {
    "no markup": calls_in("", "{{ c.name }} with " + JSON),
    "not written": HEAD + END,
    "names only": calls_in("", "<tool_call>{{ c.name }}</tool_call>"),
    "kwargs": calls_in("<calls>[", "{{ c.name }}(" + PAIR + "{{ k }}={{ v }}{% endfor %})", "]</calls>"),
    "python": calls_in("", "<tool_call>{'name': '{{ c.name }}', 'arguments': {{ c.arguments }}}</tool_call>"),
    "refuses": "{{ raise_exception('no') if tools }}",
}


def learned(source: str) -> ToolFormat:
    template = ChatTemplate(source)
    return learn(lambda messages, tools, turn: template.render(messages, tools=tools, add_generation_prompt=turn))


FORMATS = {name: learned(source) for name, source in TEMPLATES.items()}
HERMES = FORMATS["hermes"]
MARKUP = sorted({part for fmt in FORMATS.values() for part in (*fmt.markup, fmt.begin, "now", '{"city": "x"}') if part})
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=8), values, max_size=4)
words = st.text('ab Ü7"\\{}[]:,\n', max_size=12)
arguments = st.fixed_dictionaries({}, optional={"city": words, "days": st.integers(), "when": objects | st.none()})


def written(fmt: ToolFormat, calls: list[tuple[str, Any]], ids: str = "probecall") -> str:
    """The calls as this format has them."""
    texts = []
    for number, (name, values) in enumerate(calls):
        if fmt.pairs is None:
            said = json.dumps(values, ensure_ascii=False)
        else:
            pair = fmt.pairs
            said = "".join(
                pair.key
                + key
                + (pair.text + value if isinstance(value, str) else pair.json + json.dumps(value, ensure_ascii=False))
                + pair.end
                for key, value in values.items()
            )
        head, named, tail = (
            part.replace(INDEX, str(number)).replace(ID, ids) for part in (fmt.head, fmt.named, fmt.tail)
        )
        texts.append(head + name + named + said + tail)
    return fmt.open + fmt.separator.join(texts) + fmt.close


def read(fmt: ToolFormat, pieces: list[str]) -> tuple[str, list[tuple[str, str]]]:
    parser = ToolParser(fmt, TOOLS)
    content = ""
    names: list[str] = []
    told: dict[int, str] = {}
    for event in [event for piece in pieces for event in parser.feed(piece)] + parser.finish():
        match event:
            case Content(text, at):
                assert "".join(pieces)[at : at + len(text)] == text
                content += text
            case CallStart(index, call_id, name):
                assert index == len(names) and len(call_id) == 9
                names.append(name)
                told[index] = ""
            case CallArguments(index, text):
                assert text
                told[index] += text
    return content, [(name, told[index]) for index, name in enumerate(names)]


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(st.tuples(st.sampled_from(["now", "weather", "f.g-h_1"]), objects), min_size=1, max_size=3),
    st.lists(st.tuples(st.just("weather"), arguments), min_size=1, max_size=3),
    st.lists(st.integers(0, 1000), max_size=12),
)
@example("apertus", [("now", {INDEX: ID})], [("weather", {"city": INDEX})], [])  # what stands for holes in a format
@example("kimi", [("now", {INDEX: ID})], [("weather", {"city": INDEX})], [])
def test_calls_survive_any_cut(
    name: str, free: list[tuple[str, Any]], known: list[tuple[str, Any]], places: list[int]
) -> None:
    fmt = FORMATS[name]
    calls = (free if fmt.pairs is None else known)[: 3 if fmt.parallel else 1]
    content, found = read(fmt, cut(written(fmt, calls), places))
    assert content == ""
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls


@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(st.sampled_from([*' ab{}[]"\\<>/\n:,', *MARKUP]), max_size=20).map("".join),
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
    """A vocabulary of bytes, some special tokens and an end."""

    eos_token_id = 257
    bos_token_id = None
    tokens = [bytes([i]) for i in range(256)] + [b"\xff<|marker|>", b"\xff</s>", *(b"\xff<|%d|>" % n for n in range(6))]
    special_token_ids = list(range(256, 264))  # noqa: RUF012

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


GOOD: list[tuple[str, Any]] = [("weather", {"city": "Köln", "days": 3, "unit": "F"})]
BAD: list[list[tuple[str, Any]]] = [
    [("weather", {"town": 1})],
    [("weather", {"city": "Köln", "days": "x"})],
    [("weather", {"city": "Köln", "unit": "K"})],
    [("weather", {"days": 3})],
    [("other", {})],
    [("now", {"x": 1})],
]
every = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)


@every
@pytest.mark.parametrize("thinking", [False, True])
def test_grammars_allow_valid_calls_only(vocabulary: LLTokenizer, fmt: ToolFormat, thinking: bool) -> None:
    thought = "let me see</think>\n\n" if thinking else ""
    before = lead(THINK, thinking, free=True)
    for calls in Calls:
        grammar = tool_grammar(fmt, TOOLS, calls, parallel=True, lead=before)
        assert accepts(vocabulary, grammar, thought + written(fmt, GOOD))
        assert accepts(vocabulary, grammar, thought + written(fmt, [*GOOD, ("now", {})])) == fmt.parallel
        for bad in BAD:
            assert not accepts(vocabulary, grammar, thought + written(fmt, bad))
    free, forced = (tool_grammar(fmt, TOOLS, calls, True, before) for calls in Calls)
    assert accepts(vocabulary, free, thought + "It is sunny.\nVery.")
    assert not accepts(vocabulary, forced, thought + "It is sunny.")


@every
@pytest.mark.parametrize("calls", Calls)
def test_one_call_when_parallel_calls_are_off(vocabulary: LLTokenizer, fmt: ToolFormat, calls: Calls) -> None:
    grammar = tool_grammar(fmt, TOOLS, calls, parallel=False)
    assert accepts(vocabulary, grammar, written(fmt, GOOD))
    if calls is Calls.REQUIRED:
        assert not accepts(vocabulary, grammar, written(fmt, [*GOOD, ("now", {})]))


def test_text_may_come_before_a_call(vocabulary: LLTokenizer) -> None:
    grammar = tool_grammar(HERMES, TOOLS, Calls.AUTO, parallel=True)
    assert accepts(vocabulary, grammar, "Let me look.\n" + written(HERMES, GOOD))


def test_a_format_after_thinking(vocabulary: LLTokenizer) -> None:
    schema = Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object", "properties": {"a": {"type": "integer"}}}')
    before = lead(THINK, True, free=False)
    nested = held_after(schema, before)
    assert nested is not None
    assert accepts(vocabulary, nested, 'hm {"a": "x"}</think>\n\n{"a": 1}')
    assert not accepts(vocabulary, nested, 'hm</think>{"a": "x"}')
    pattern = held_after(Grammar(GrammarKind.REGEX, "a/b+"), before)
    assert pattern is not None
    assert accepts(vocabulary, pattern, "hm</think>a/bb")
    assert held_after(Grammar(GrammarKind.LARK, "start: /a/"), before) is None


def test_channels_before_what_is_held_to_a_form(vocabulary: LLTokenizer) -> None:
    fmt = ReasoningFormat("<|to|>self", "<|end|>start", "<|to|>user", (("<|to|>", 256), ("<|end|>", 258)))

    def taken(grammar: Grammar, *parts: str | int) -> bool:
        matcher = LLMatcher(vocabulary, LLMatcher.grammar_from_lark(grammar.source), log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        tokens = [token for part in parts for token in ([part] if isinstance(part, int) else part.encode())]
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

    schema = Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object", "properties": {"a": {"type": "integer"}}}')
    held = held_after(schema, lead(fmt, False, free=False))
    assert held is not None
    assert taken(held, 256, "user", '{"a": 1}')
    assert taken(held, 256, "self", "well {", 258, "start", 256, "user", '{"a": 1}')
    assert not taken(held, '{"a": 1}')
    assert not taken(held, 256, "self", "well", 258, "start", '{"a": 1}')
    opened = held_after(schema, lead(fmt, True, free=False))
    assert opened is not None and taken(opened, "well", 258, "start", 256, "user", '{"a": 1}')
    assert not taken(opened, 256, "user", '{"a": 1}')
    for calls in Calls:
        grammar = tool_grammar(HERMES, TOOLS, calls, True, lead(fmt, False, free=True))
        assert taken(grammar, 256, "self", "well", 258, "start", written(HERMES, GOOD))
        assert taken(grammar, written(HERMES, GOOD))
        assert taken(grammar, 256, "user", "Yes.") == (calls is Calls.AUTO)


def test_calls_in_a_channel(vocabulary: LLTokenizer, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As gpt-oss writes them, after its thinking; its templates write those of earlier answers otherwise."""
    tags = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|constrain|>")
    special = {tag: 258 + number for number, tag in enumerate(tags)}

    def encode(self: Any, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        parts = re.split("(" + "|".join(map(re.escape, special)) + ")", text)
        return [token for part in parts for token in ([special[part]] if part in special else part.encode())]

    monkeypatch.setattr(tokenizer, "encode", encode)
    template = ChatTemplate(
        "{% if tools %}{{ tools | tojson }} Calls go to the channel: '<|channel|>commentary to=functions.'{% endif %}"
        "{% for m in messages %}<|start|>{{ m.role }}{% for call in m.tool_calls or [] %} to=functions."
        "{{ call.function.name }}<|channel|>commentary json<|message|>{{ call.function.arguments | tojson }}<|call|>"
        "{% else %}{% if m.thinking %}<|channel|>analysis<|message|>{{ m.thinking }}<|end|><|start|>assistant"
        "{% endif %}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m.content }}<|end|>"
        "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    )
    fmt, marks = tool_format(template, tokenizer()), reasoning_format(template, tokenizer())
    assert marks is not None and fmt.special and not fmt.parallel
    call = '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "Köln"}'
    thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    final = "<|channel|>final<|message|>Yes."
    for answer, content in ((call, ""), (thought + call, ""), (final, "Yes."), (thought + final, "Yes.")):
        for pieces in ([answer], list(answer)):
            reader, message = AnswerReader(ReasoningReader(marks, False), ToolParser(fmt, TOOLS), False), Message()
            for piece in pieces:
                message.add(reader.feed(piece))
            message.add(reader.finish())
            assert "".join(message.content) == content
            found = [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in message.calls]
            assert found == ([] if content else [("weather", {"city": "Köln"})])
            assert "".join(message.reasoning) == ("Hm." if answer.startswith(thought) else "")

    def taken(grammar: Grammar, text: str) -> bool:
        matcher = LLMatcher(vocabulary, LLMatcher.grammar_from_lark(grammar.source), log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        tokens = encode(None, text, add_special=False, parse_special=True)
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

    for calls in Calls:
        grammar = tool_grammar(fmt, TOOLS, calls, True, lead(marks, False, free=True))
        assert taken(grammar, call) and taken(grammar, thought + call)
        assert not taken(grammar, call.replace("city", "town"))
        assert taken(grammar, final) == taken(grammar, thought + final) == (calls is Calls.AUTO)


@every
def test_markup_that_is_special_tokens(vocabulary: LLTokenizer, fmt: ToolFormat) -> None:
    if fmt.bare:
        return
    special = dataclasses.replace(fmt, special=((fmt.begin, 256),))
    texts = written(special, GOOD).split(fmt.begin)
    tokens = [token for number, text in enumerate(texts) for token in [*([256] if number else []), *text.encode()]]
    for calls in Calls:
        grammar = tool_grammar(special, TOOLS, calls, parallel=True)
        matcher = LLMatcher(vocabulary, LLMatcher.grammar_from_lark(grammar.source), log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        assert matcher.try_consume_tokens(tokens) == len(tokens)
        assert matcher.is_accepting()


@every
def test_what_a_template_writes_is_read_back_and_is_what_the_grammar_allows(
    vocabulary: LLTokenizer, fmt: ToolFormat
) -> None:
    name = next(name for name, known in FORMATS.items() if known is fmt)
    calls: list[tuple[str, Any]] = [
        ("weather", {"city": 'a "b" \\ <c>', "days": -1, "when": {"x": [True, None]}}),
        ("now", {}),
        ("weather", {"city": "Rom"}),
    ]
    calls = calls if fmt.parallel else calls[:1]
    made = [
        {"id": f"call{n}", "type": "function", "function": {"name": name, "arguments": value}}
        for n, (name, value) in enumerate(calls)
    ]
    said = {"role": "assistant", "content": "", "tool_calls": made}
    text = ChatTemplate(TEMPLATES[name]).render([{"role": "user", "content": "q"}, said], add_generation_prompt=False)
    answer = text.split("<|im_start|>assistant\n")[1].removesuffix("<|im_end|>\n").lstrip()
    if name == "mistral":
        answer = re.sub(', "id": "call."', "", answer)  # of answers, which have no ids yet
    content, found = read(fmt, list(answer))
    assert content == ""
    assert [(name, json.loads(told)) for name, told in found] == calls
    if name == "seed":  # which prints lists and objects as Python does, and does not have to teach it
        return
    for may in Calls:
        assert accepts(vocabulary, tool_grammar(fmt, TOOLS, may, parallel=True), answer)


def test_values_that_stand_without_quotes_are_what_the_schema_says() -> None:
    fmt = FORMATS["qwen3_coder"]
    for said, value in (("2026", "2026"), ("true", "true"), ("{}", "{}"), ("", ""), (" a\n", " a\n")):
        call = written(fmt, [("weather", {"city": said})])
        assert json.loads(read(fmt, [call])[1][0][1]) == {"city": value}


def test_optional_and_shared_schemas_say_what_stands_without_quotes(vocabulary: LLTokenizer) -> None:
    """As pydantic writes Optional[str], Optional[int], an enum and a model of their own."""
    null = {"type": "null"}
    properties = {
        "zip": {"anyOf": [{"type": "string"}, null]},
        "days": {"anyOf": [{"type": "integer"}, null]},
        "unit": {"$ref": "#/$defs/Unit"},
        "place": {"$ref": "#/$defs/Place"},
    }
    place = {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]}
    shared = {"Unit": {"enum": ["1", "2"], "type": "string"}, "Place": place}
    function = {"name": "f", "parameters": {"type": "object", "properties": properties, "$defs": shared}}
    tools = [Tool.model_validate({"type": "function", "function": function})]

    def call(**values: str) -> str:
        pairs = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
        return f"<tool_call>\n<function=f>\n{pairs}</function>\n</tool_call>"

    fmt = FORMATS["qwen3_coder"]
    parser = ToolParser(fmt, tools)
    events = parser.feed(call(zip="01234", days="3", unit="2", place='{"lat": 1}'))
    told = json.loads("".join(event.text for event in events if isinstance(event, CallArguments)))
    assert told == {"zip": "01234", "days": 3, "unit": "2", "place": {"lat": 1}}
    grammar = tool_grammar(fmt, tools, Calls.REQUIRED, parallel=True)
    for good in (call(zip="12"), call(zip="null", days="null"), call(unit="2"), call(place='{"lat": 1.5}')):
        assert accepts(vocabulary, grammar, good)
    for bad in (call(days="soon"), call(unit="3"), call(place="here"), call(place='{"lat": "x"}')):
        assert not accepts(vocabulary, grammar, bad)
    for said, value in (("12", "12"), ("true", "true"), ("null", None), ("[1]", "[1]")):
        parser = ToolParser(fmt, tools)
        told = "".join(event.text for event in parser.feed(call(zip=said)) if isinstance(event, CallArguments))
        assert json.loads(told) == {"zip": value}


@pytest.mark.parametrize("source", UNREADABLE.values(), ids=UNREADABLE)
def test_a_template_whose_calls_can_not_be_read_back_is_refused(source: str, tokenizer: Any) -> None:
    with pytest.raises(ApiError, match="writes tool calls in a form") as caught:
        tool_format(ChatTemplate(source), tokenizer())
    assert caught.value.param == "tools"


def test_a_template_without_tools_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ApiError, match="does not take tools"):
        tool_format(ChatTemplate("no such thing"), tokenizer())


def test_a_call_that_is_cut_short_is_not_whole() -> None:
    for fmt in FORMATS.values():
        text = written(fmt, [("weather", {"city": "Köln", "days": 3})])
        for end in range(len(text)):
            parser = ToolParser(fmt, TOOLS)
            events = [*parser.feed(text[:end]), *parser.finish()]
            told = "".join(event.text for event in events if isinstance(event, CallArguments))
            if parser.calls and parser.whole:
                assert json.loads(told) == {"city": "Köln", "days": 3}
