"""Thinking is told apart from the answer, however the text is cut, in whatever markup the template writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.openai.reasoning import ReasoningReader
from llmservice_runtime.openai.reasoning_formats import THINK, ReasoningFormat, known_format
from llmservice_runtime.openai.reasoning_probe import learn
from llmservice_runtime.openai.templates import ChatTemplate

CHANNELS = ReasoningFormat("<|channel|>analysis<|message|>", "<|end|><|start|>assistant", "<|channel|>final<|message|>")
PARTS = ["<think>", "</think>", "<th", "ink>", "</", " ", "\n", "well", "yes", "<"]
PIECES = st.lists(
    st.sampled_from(
        [*PARTS, "<|channel|>", "analysis<|message|>", "final<|message|>", "<|end|>", "<|start|>", "assistant"]
    ),
    max_size=12,
)


def read(pieces: list[str], thinking: bool, fmt: ReasoningFormat = THINK) -> tuple[str, str]:
    reader = ReasoningReader(fmt, thinking)
    parts = [*(reader.feed(piece) for piece in pieces), reader.finish()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@given(PIECES, st.booleans(), st.sampled_from([THINK, CHANNELS]))
def test_any_cut_reads_the_same(pieces: list[str], thinking: bool, fmt: ReasoningFormat) -> None:
    text = "".join(pieces)
    assert read(pieces, thinking, fmt) == read([text], thinking, fmt) == read(list(text), thinking, fmt)


def test_a_block_at_the_start() -> None:
    assert read(["<think>\nwell then\n</think>\n\nYes"], False) == ("well then", "Yes")
    assert read(["well then</think>Yes"], True) == ("well then", "Yes")


def test_an_answer_without_a_block_is_untouched() -> None:
    assert read(["  Yes <think>no</think>"], False) == ("", "  Yes <think>no</think>")


def test_a_block_that_never_ends_is_thinking() -> None:
    assert read(["<think>and then </th"], False) == ("and then </th", "")


def test_what_follows_the_first_block_is_content() -> None:
    assert read(["<think>well</think><think>then</think>Yes"], False) == ("well", "<think>then</think>Yes")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "<|channel|>analysis<|message|>well then<|end|><|start|>assistant<|channel|>final<|message|>Yes",
            ("well then", "Yes"),
        ),
        ("<|channel|>final<|message|>Yes", ("", "Yes")),
        (
            "<|channel|>analysis<|message|>well <|end|> <|start|>assistant<|channel|>analysis<|message|>then<|end|>"
            "<|start|>assistant<|channel|>final<|message|>Yes",
            ("wellthen", "Yes"),
        ),
        ("<|channel|>analysis<|message|>a <|end|> b", ("a <|end|> b", "")),
        ("<|channel|>analysis<|message|>well<|end|><|start|>assistant<|tool_calls|>[]", ("well", "<|tool_calls|>[]")),
        ("Yes", ("", "Yes")),
    ],
)
def test_channels(text: str, found: tuple[str, str]) -> None:
    assert read([text], False, CHANNELS) == found


EACH = "{% for m in messages %}"
TURN = "{% endfor %}{% if add_generation_prompt %}"


@pytest.mark.parametrize(
    ("before", "thinks", "answers", "after", "prompt", "fmt"),
    [
        ("<|im_start|>{role}\n", "<think>\n{T}\n</think>\n\n", "", "<|im_end|>\n", "<|im_start|>assistant\n", THINK),
        (
            "<|im_start|>{role}\n",
            "<think>\n{T}\n</think>\n\n",
            "",
            "<|im_end|>\n",
            "<|im_start|>assistant\n<think>\n",
            THINK,
        ),
        (
            "<seed:bos>{role}\n",
            "<seed:think>{T}</seed:think>\n",
            "",
            "<seed:eos>",
            "<seed:bos>assistant\n",
            ReasoningFormat("<seed:think>", "</seed:think>"),
        ),
        (
            "<|start|>{role}",
            "<|channel|>analysis<|message|>{T}<|end|><|start|>assistant",
            "<|channel|>final<|message|>",
            "<|end|>",
            "<|start|>assistant",
            CHANNELS,
        ),
        (
            "<|turn|>{role}",
            "<|START|>{T}<|STOP|>",
            "<|TEXT|>",
            "<|over|>",
            "<|turn|>assistant<|START|>",
            ReasoningFormat("<|START|>", "<|STOP|>", "<|TEXT|>"),
        ),
    ],
)
def test_a_template_teaches_its_markup(
    before: str, thinks: str, answers: str, after: str, prompt: str, fmt: ReasoningFormat
) -> None:
    thought = thinks.replace("{T}", "{{ m.reasoning_content }}")
    source = (
        EACH
        + before.replace("{role}", "{{ m.role }}")
        + "{% if m.role == 'assistant' %}{% if m.reasoning_content %}"
        + thought
        + "{% endif %}"
        + answers
        + "{% endif %}{{ m.content }}"
        + after
        + TURN
        + prompt
        + "{% endif %}"
    )
    assert learned(source) == fmt
    assert fmt.opened_by(ChatTemplate(source).render([{"role": "user", "content": "Hi."}])) == (
        prompt.strip().endswith(fmt.open)
    )


@pytest.mark.parametrize(
    "body",
    [
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n",
        "<|{{ m.role }}|>{{ m.reasoning_content }}{{ m.content }}<|im_end|>\n",
        "<|im_start|>{{ m.role }}\n{{ m.reasoning_content }}</think>{{ m.content }}<|im_end|>\n",
    ],
)
def test_nothing_is_learned_that_can_not_be_read_back(body: str) -> None:
    assert learned(EACH + body + TURN + "<|im_start|>assistant\n{% endif %}") is None


def learned(source: str) -> ReasoningFormat | None:
    template = ChatTemplate(source)
    return learn(lambda messages, turn: template.render(messages, add_generation_prompt=turn))


def test_a_template_that_drops_thinking_is_known_by_what_ends_it() -> None:
    assert known_format("{% set text = text.split('</think>')[-1] %}") == THINK
    gemma = known_format("{{ '<|channel>thought\\n<channel|>' }}")
    assert gemma is not None and read(["<|channel>thought\nwell\n<channel|>Yes"], False, gemma) == ("well", "Yes")
    assert known_format("{{ messages }}") is None
