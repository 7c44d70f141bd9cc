"""Thinking is told apart from the answer, however the text is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.openai.reasoning import ReasoningReader

PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<th", "ink>", "</", " ", "\n", "well", "yes", "<"]), max_size=12
)


def read(pieces: list[str], thinking: bool) -> tuple[str, str]:
    reader = ReasoningReader(thinking)
    parts = [*(reader.feed(piece) for piece in pieces), reader.finish()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@given(PIECES, st.booleans())
def test_any_cut_reads_the_same(pieces: list[str], thinking: bool) -> None:
    text = "".join(pieces)
    assert read(pieces, thinking) == read([text], thinking) == read(list(text), thinking)


def test_a_block_at_the_start() -> None:
    assert read(["<think>\nwell then\n</think>\n\nYes"], False) == ("well then", "Yes")
    assert read(["well then</think>Yes"], True) == ("well then", "Yes")


def test_an_answer_without_a_block_is_untouched() -> None:
    assert read(["  Yes <think>no</think>"], False) == ("", "  Yes <think>no</think>")


def test_a_block_that_never_ends_is_thinking() -> None:
    assert read(["<think>and then </th"], False) == ("and then </th", "")
