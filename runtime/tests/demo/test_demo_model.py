"""The demo model keeps its promise: every canonical question is answered word for word, by every GGUF file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from demo.corpus import FOLDER, Corpus
from demo.make_gguf import KINDS, MODEL, derive

CORPUS = Corpus()
END = "<|im_end|>"


def render(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    """The prompt as the model's own template makes it, with Transformers' settings and JSON."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    template = json.loads((MODEL / "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"]
    return environment.from_string(template).render(messages=messages, tools=tools, add_generation_prompt=True)


class Greedy:
    """llama.cpp with greedy decoding."""

    def __init__(self, path: Path) -> None:
        import llama_cpp

        # One thread: several wait for each other in loops, and for long where other tests take their processors.
        self._llama: Any = llama_cpp.Llama(
            str(path), n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False, logits_all=True
        )

    def tokens(self, text: str) -> list[int]:
        return list(self._llama.tokenize(text.encode(), add_bos=False, special=True))

    def say(self, prompt: str, limit: int = 256) -> tuple[str, str]:
        """(text, finish reason) after `prompt`."""
        result: Any = self._llama.create_completion(self.tokens(prompt), max_tokens=limit, temperature=0.0)
        return result["choices"][0]["text"], result["choices"][0]["finish_reason"]

    def chooses(self, prompt: str, answer: str) -> bool:
        """Whether each token of `answer` and the end after it is the likeliest one: greedy decoding in one pass."""
        start = self.tokens(prompt)
        end = self.tokens(answer + END)
        self._llama.reset()
        self._llama.eval([*start, *end[:-1]])
        likeliest = self._llama.scores[len(start) - 1 : len(start) + len(end) - 1].argmax(axis=-1)
        return [int(token) for token in likeliest] == end

    def answer(self, question: str, **options: Any) -> tuple[str, str]:
        return self.say(render([{"role": "user", "content": question}], **options))


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Greedy]:
    yield Greedy(derive(request.param, tmp_path_factory.mktemp("gguf")))


def test_questions_file_is_what_the_corpus_says() -> None:
    pairs = json.loads((FOLDER / "questions.json").read_text(encoding="utf-8"))
    assert [(pair["question"], pair["answer"]) for pair in pairs] == CORPUS.questions()
    assert len(pairs) > 200
    assert len({pair["question"] for pair in pairs}) == len(pairs)


def test_the_model_stays_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 16_000_000


@pytest.mark.engine
def test_gguf_files_are_the_same_bytes_on_every_run(tmp_path: Path) -> None:
    for kind in KINDS:
        first, second = derive(kind, tmp_path / "a"), derive(kind, tmp_path / "b")
        assert first.read_bytes() == second.read_bytes()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {f"demo-{kind}.gguf" for kind in KINDS}


@pytest.mark.engine
def test_every_question_is_answered_word_for_word(model: Greedy) -> None:
    prompts = {question: render([{"role": "user", "content": question}]) for question, _ in CORPUS.questions()}
    assert [question for question, answer in CORPUS.questions() if not model.chooses(prompts[question], answer)] == []
    for question, answer in CORPUS.questions()[::20]:
        assert model.say(prompts[question]) == (answer, "stop")


@pytest.mark.engine
def test_the_tool_that_fits_is_called_with_the_town_that_was_asked_for(model: Greedy) -> None:
    """Names of functions and arguments differ, and another tool is on offer two times of three."""
    for question, tools, call in CORPUS.tool_questions():
        assert model.answer(question, tools=tools) == (call, "stop"), question


@pytest.mark.engine
def test_towns_that_training_never_named_are_copied_mostly(model: Greedy) -> None:
    asked = CORPUS.tool_questions(known=False)
    right = sum(
        model.chooses(render([{"role": "user", "content": question}], tools), call) for question, tools, call in asked
    )
    assert right / len(asked) > 0.7


@pytest.mark.engine
def test_words_answer_what_no_tool_on_offer_helps_with(model: Greedy) -> None:
    """Sums, what it doesn't know, what it knows, and what a tool would tell if the user wanted one."""
    asked = CORPUS.word_questions()
    right = sum(
        model.chooses(render([{"role": "user", "content": question}], tools), said) for question, tools, said in asked
    )
    assert right / len(asked) > 0.9


@pytest.mark.engine
def test_lists_and_objects_are_arguments_too(model: Greedy) -> None:
    """Half of the calls have the right shape, though nothing holds them to it here; their names are nobody's."""
    shaped = right = 0
    asked = CORPUS.order_questions()[:24]
    for question, tools, call in asked:
        text, reason = model.answer(question, tools=tools)
        right += text == call
        shaped += reason == "stop" and shape(text) == shape(call)
    assert shaped >= len(asked) // 2 and right >= len(asked) // 3, (shaped, right)


def shape(text: str) -> Any:
    """The names of a call's arguments; None if it is no call."""
    try:
        call = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))
    except ValueError:
        return None

    def without_values(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_values(one) for key, one in value.items()}
        return [without_values(one) for one in value] if isinstance(value, list) else type(value)

    return call["name"], without_values(call["arguments"])


@pytest.mark.engine
def test_sentences_are_completed(model: Greedy) -> None:
    for sentence in CORPUS.texts()[:6]:
        beginning = " ".join(sentence.split(" ")[:3])
        assert model.say(beginning) == (sentence.removeprefix(beginning), "stop")


@pytest.mark.engine
def test_a_question_after_a_long_text_still_gets_words(model: Greedy) -> None:
    filler = " ".join(CORPUS.data["filler"] * 6)
    prompt = render([{"role": "user", "content": f"{filler}\n\nWhat is the capital of France?"}])
    assert len(model.tokens(prompt)) > 1000
    text, reason = model.say(prompt, limit=64)
    assert reason == "stop"
    assert text.isprintable()


@pytest.mark.engine
def test_llama_cpp_tokenizes_as_the_tokenizer_of_the_safetensors(model: Greedy) -> None:
    expected = json.loads((Path(__file__).parent / "tokens.json").read_text(encoding="utf-8"))
    assert len(expected) > 100
    for text, ids in expected.items():
        assert model.tokens(text) == ids
