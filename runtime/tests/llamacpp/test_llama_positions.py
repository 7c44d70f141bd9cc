"""Log-probabilities: joined, their tokens are the text of the answer, whatever cuts it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.generation.answers import Answer
from llmservice_runtime.protocol.engine import Delta, FinishReason, GenerationRequest, SamplingParams, TokenLogprob

END, SPECIAL, STOP_ID = 4, 5, 6


@dataclass
class _Tokens:
    """Ids 0 to 3 are the parts of an emoji and a letter; 4 ends, 5 is special, 6 is text too; 7... are words."""

    words: list[bytes] = field(default_factory=list)
    special_tokens = frozenset({END, SPECIAL})
    end_tokens = frozenset({END})

    @property
    def vocab_size(self) -> int:
        return 7 + len(self.words)

    def token_bytes(self, token: int) -> bytes:
        known = [*(bytes([byte]) for byte in "🙂".encode()), b"<|end|>", b"<|special|>", b"six", *self.words]
        return known[token]

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        raise NotImplementedError


@dataclass
class _Stream:
    arrived: float = 0.0


def generate(tokens: list[int], words: list[bytes], prompt: list[int] | None = None, **params: object) -> list[Delta]:
    vocabulary = _Tokens(words)
    asked = SamplingParams(max_tokens=len(tokens), logprobs=1, **params)  # type: ignore[arg-type]
    request = GenerationRequest("r", prompt or [7], asked, prompt_logprobs=prompt is not None)
    answer = Answer(request, 0, _Stream(), vocabulary, 4096, None)  # type: ignore[arg-type]
    row = np.zeros(vocabulary.vocab_size, np.float32)
    for at in range(len(request.prompt_tokens) - 1):
        answer.note_prompt_row(at, row)
    deltas = []
    for token in tokens:
        deltas.append(answer.take(token, row, 0.0))
        if deltas[-1].finish_reason is not None:
            break
    return deltas


def positions(deltas: list[Delta]) -> list[TokenLogprob]:
    return [position for delta in deltas for position in delta.logprobs or []]


words = st.lists(st.text("ab\n🙂é", min_size=1, max_size=4).map(str.encode), min_size=1, max_size=5)


@given(
    words,
    st.lists(st.integers(0, 11), min_size=1, max_size=20),
    st.lists(st.text("ab\n🙂six", min_size=1, max_size=3), max_size=2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_tokens_joined_are_the_text(
    words: list[bytes], tokens: list[int], stops: list[str], include: bool, skip: bool, ignore: bool
) -> None:
    tokens = [token % (7 + len(words)) for token in tokens]
    deltas = generate(
        tokens,
        words,
        stop=tuple(stops),
        stop_token_ids=(STOP_ID,),
        include_stop_str_in_output=include,
        skip_special_tokens=skip,
        ignore_eos=ignore,
    )
    text, known = "", ""
    for delta in deltas:
        text += delta.text
        known += "".join(position.text or "" for position in delta.logprobs or [])
        assert text.startswith(known), "none that a stop string may still cut"
    assert known == text
    raw = b"".join(position.token for position in positions(deltas))
    assert raw.decode("utf-8", "replace") == text


def test_what_ends_an_answer_has_no_place() -> None:
    for end in (END, STOP_ID):
        deltas = generate([7, end], [b"Hi"], stop_token_ids=(STOP_ID,))
        assert deltas[-1].finish_reason is FinishReason.STOP
        assert [position.token for position in positions(deltas)] == [b"Hi"]


def test_a_stop_string_cuts_the_token_that_it_begins_in() -> None:
    deltas = generate([7, 8, 9], [b"one", b" two\n", b"\nthree"], stop=("\n\n",))
    assert [(p.token, p.text) for p in positions(deltas)] == [(b"one", "one"), (b" two", " two")]


def test_a_character_of_several_tokens_comes_with_the_last() -> None:
    assert [(p.text, p.token) for p in positions(generate([0, 1, 2, 3], [b"x"]))] == [
        *[("", bytes([byte])) for byte in "🙂".encode()[:3]],
        ("🙂", "🙂".encode()[3:]),
    ]
    cut = positions(generate([7, 0, 1], [b"x"]))
    assert "".join(p.text or "" for p in cut) == "x\ufffd"


def test_a_scored_prompt_has_a_place_for_every_token_and_so_has_its_answer() -> None:
    deltas = generate([7, END], [b"Hi", b"ho"], prompt=[SPECIAL, 7, 0, 1, 2, 3, 8], skip_special_tokens=True)
    scored = deltas[0].prompt_logprobs
    assert scored is not None and scored[0] is None
    assert [p.text for p in scored[1:] if p is not None] == ["Hi", "", "", "", "🙂", "ho"]
    assert [p.text for p in positions(deltas)] == ["Hi", ""]
