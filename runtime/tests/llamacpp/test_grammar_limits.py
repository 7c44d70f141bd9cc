"""Grammars of clients: what would hang, crash or fail in the middle of an answer is refused when it comes."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from llmservice_runtime.generation.grammar import MAX_SOURCE, GrammarCompiler
from llmservice_runtime.generation.schema_parts import locate
from llmservice_runtime.protocol.engine import Grammar, GrammarError, GrammarKind

pytestmark = pytest.mark.engine

TEXT: dict[str, Any] = {"type": "string"}


class Bytes:
    """Token = byte; 256 ends an answer."""

    vocab_size = 257
    bos, eos = -1, 256
    bos_token, eos_token, chat_template, tool_template = "", "</s>", None, None
    end_tokens = special_tokens = frozenset({256})

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return list(text.encode())

    def parts(self, text: str, *, add_special: bool, parse_special: bool) -> Any:
        yield list(text.encode())

    def at_least(self, text: str) -> int:
        return len(text)

    def decode(self, tokens: Any, *, skip_special: bool = True) -> str:
        return bytes(token for token in tokens if token < 256).decode()

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b"</s>"


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(Bytes())


def schema(body: Any) -> Grammar:
    return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(body))


def objects(count: int, properties: int) -> dict[str, Any]:
    branches = [{"type": "object", "properties": {f"k{i}_{j}": TEXT for j in range(properties)}} for i in range(count)]
    return {"anyOf": branches}


def chain(length: int, link: Any) -> dict[str, Any]:
    links = {f"d{i}": link({"$ref": f"#/$defs/d{i + 1}"}) for i in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{length}": TEXT}}


def within(body: Any) -> dict[str, Any]:
    """Beside much that is fine, two levels down."""
    inner = {"type": "object", "properties": {"fine": TEXT, "bad": body}, "required": ["fine", "bad"]}
    outer = {"first": TEXT, "second": {"type": "array", "items": inner, "minItems": 1}}
    return {"type": "object", "properties": outer, "required": ["second"]}


FAIL_LATER = {
    "an anyOf of 60 objects": objects(60, 10),
    "an object of 500 properties": {"type": "object", "properties": {f"p{i}": TEXT for i in range(500)}},
    "references in a circle": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    "a reference to itself": {"$ref": "#"},
}
UNFIT: dict[str, dict[str, Any]] = {
    "an unknown reference": {"$ref": "https://example.com/x.json"},
    "look-around": {"type": "string", "pattern": "(?=x)y"},
    "half a pattern": {"type": "string", "pattern": "["},
    "an unknown format": {"type": "string", "format": "nonsense"},
    "not": {"not": TEXT},
    "if": {"if": TEXT, "then": {"minLength": 3}},
    "overlapping oneOf": {"oneOf": [{"type": "object", "properties": {"a": TEXT}}, {"type": "object"}]},
    "an empty range": {"type": "integer", "minimum": 5, "maximum": 3},
    "a number that no machine has": {"type": "integer", "minimum": -(10**30), "maximum": 10**40},
    "types that exclude each other": {"allOf": [TEXT, {"type": "integer"}]},
    "an impossible property": {"type": "object", "properties": {"a": False}, "required": ["a"]},
    "no such type": {"type": "strin"},
    "unique items": {"type": "array", "items": TEXT, "uniqueItems": True},
}


@pytest.mark.parametrize("body", [*FAIL_LATER.values(), *UNFIT.values()], ids=[*FAIL_LATER, *UNFIT])
async def test_what_cannot_be_honoured_is_refused_when_it_comes(compiler: GrammarCompiler, body: Any) -> None:
    for _ in range(2):  # the second time it is known
        with pytest.raises(GrammarError) as caught:
            await compiler.prepare(schema(body))
        assert str(caught.value).strip()
    assert not compiler.cached(schema(body))


@pytest.mark.parametrize("body", UNFIT.values(), ids=UNFIT)
async def test_the_part_is_named(compiler: GrammarCompiler, body: Any) -> None:
    with pytest.raises(GrammarError) as caught:
        await compiler.prepare(schema(within(body)))
    assert "`properties.second.items.properties.bad" in str(caught.value)


WIDE = {
    "objects": objects(60, 10),
    "references": {"anyOf": [{"$ref": f"#/$defs/d{i}"} for i in range(60)]},
    "properties": {"type": "object", "properties": {f"p{i}": TEXT for i in range(500)}},
}
DEFS = {f"d{i}": part for i, part in enumerate(objects(60, 10)["anyOf"])}


@pytest.mark.parametrize("body", WIDE.values(), ids=WIDE)
async def test_too_many_alternatives_are_found_where_no_walk_comes_by(compiler: GrammarCompiler, body: Any) -> None:
    rare = {"type": "object", "properties": {"a": TEXT, "x": {"type": "array", "items": body}}, "$defs": DEFS}
    with pytest.raises(GrammarError) as caught:
        await compiler.prepare(schema(rare))
    assert "at `properties.x.items`" in str(caught.value)
    assert "anyOf" in str(caught.value) and "2000" in str(caught.value)
    tool = 'start: "call" arguments\narguments: %json ' + json.dumps(rare) + "\n"
    with pytest.raises(GrammarError, match=r"at `properties\.x\.items`"):
        await compiler.prepare(Grammar(GrammarKind.LARK, tool))


@pytest.mark.parametrize(
    "grammar",
    [
        pytest.param(schema(chain(3000, lambda ref: ref)), id="references"),
        pytest.param(schema(chain(3000, lambda ref: {"type": "array", "items": ref})), id="arrays of arrays"),
        pytest.param(schema(chain(3000, lambda ref: {"anyOf": [ref, {"type": "integer"}]})), id="alternatives"),
        pytest.param(
            Grammar(
                GrammarKind.LARK,
                "start: r0\n" + "\n".join(f'r{i}: r{i + 1} | "x{i}"' for i in range(6000)) + '\nr6000: "z"',
            ),
            id="rules",
        ),
        pytest.param(Grammar(GrammarKind.REGEX, "a?b*" * 16_000), id="a regular expression"),
    ],
)
async def test_what_ends_or_hangs_a_compiler_ends_a_process_that_may_be_lost(
    compiler: GrammarCompiler, grammar: Grammar
) -> None:
    """Each of these ended the engine (a stack overflow in native code), or kept it busy for minutes."""
    with pytest.raises(GrammarError, match="too complex"):
        await compiler.prepare(grammar)
    await compiler.prepare(schema(TEXT))


async def test_the_way_out_is_the_clients_own(compiler: GrammarCompiler) -> None:
    with pytest.raises(GrammarError, match="use `anyOf`"):
        await compiler.prepare(schema(UNFIT["overlapping oneOf"]))
    tagged = [{"type": "object", "properties": {"k": {"const": name}}, "required": ["k"]} for name in ("a", "b")]
    await compiler.prepare(schema({"oneOf": tagged}))
    await compiler.prepare(schema({"anyOf": UNFIT["overlapping oneOf"]["oneOf"]}))


@pytest.mark.parametrize(
    ("pattern", "words"), [("(", "unclosed group"), (r"(a)\1", "backreferences"), ("(?=x)y", "look-around")]
)
async def test_what_is_wrong_with_a_regex_is_said(compiler: GrammarCompiler, pattern: str, words: str) -> None:
    with pytest.raises(GrammarError, match=words):
        await compiler.prepare(Grammar(GrammarKind.REGEX, pattern))


async def test_a_long_grammar_is_refused_by_its_size(compiler: GrammarCompiler) -> None:
    with pytest.raises(GrammarError, match=f"{MAX_SOURCE >> 10} KiB are the most"):
        await compiler.prepare(schema({"enum": ["x" * 100] * 10_000}))


async def test_nobody_waits_for_anothers_grammar(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    known, slow = schema({"type": "integer"}), schema({"enum": ["x" * 100] * 1_000})
    await compiler.prepare(known)
    began, go = threading.Event(), threading.Event()
    compile_one = compiler._compile

    def compile_slowly(grammar: Grammar) -> Any:
        if grammar == slow:
            began.set()
            go.wait()
        return compile_one(grammar)

    monkeypatch.setattr(compiler, "_compile", compile_slowly)
    waiting = asyncio.ensure_future(compiler.prepare(slow))
    await asyncio.to_thread(began.wait)
    compiler.matcher(known)  # what `submit` does, on the event loop
    await compiler.prepare(schema({"type": "boolean"}))
    go.set()
    await waiting


async def test_a_grammar_that_fails_in_an_answer_is_refused_from_then_on(compiler: GrammarCompiler) -> None:
    grammar = schema({"const": "yes"})
    await compiler.prepare(grammar)
    with pytest.raises(GrammarError):
        compiler.matcher(grammar).accept(ord("n"))
    with pytest.raises(GrammarError):
        await compiler.prepare(grammar)


def test_a_part_is_the_smallest_that_fails_for_the_same_reason() -> None:
    def problem(part: dict[str, Any]) -> str:
        text = json.dumps(part)
        return "row 7" if '"bad"' in text else "another" if '"other"' in text else ""

    whole = {"anyOf": [{"type": "other"}, {"items": {"allOf": [{"type": "good"}, {"type": "bad"}]}}]}
    assert locate(whole, "row 9", problem) == ("anyOf.1.items.allOf.1", "row 7")
    assert locate({"type": "bad"}, "row 9", problem) == ("", "row 9")
