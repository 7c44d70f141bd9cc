"""/v1/embeddings: what each engine makes of texts is what Transformers makes of them, as the model's files say."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from every_engine.api import Api  # type: ignore[import-not-found]
from every_engine.replica import Replica  # type: ignore[import-not-found]
from openai import OpenAI

from llmservice_planning.plan import Refusal
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.openai.requests.table import FIELDS, POOLED, Where

from .conftest import NAME, Models, planned
from .field_probes import PROBES, fields_show, nothing_changes

pytestmark = pytest.mark.engine
KINDS = ("bert-cls", "xlmr-cls", "qwen3-last", "minilm", "bert-mean")
PAGE = Path(__file__).parents[3] / "docs" / "embeddings.md"
ALIKE, DIFFERENT = 0.999, 0.9
Rows = npt.NDArray[np.float64]
Ask = Callable[..., Any]


def rows(answer: Any) -> Rows:
    """The vectors of an answer, in order."""
    assert [each["index"] for each in answer["data"]] == list(range(len(answer["data"])))
    found: Rows = np.array([each["embedding"] for each in answer["data"]])
    return found


def unit(vectors: Any) -> Rows:
    found: Rows = np.asarray(vectors, np.float64)
    scaled: Rows = found / np.linalg.norm(found, axis=-1, keepdims=True)
    return scaled


def cosines(one: Any, other: Any) -> Rows:
    found: Rows = np.sum(unit(one) * unit(other), axis=-1)
    return found


def known(models: Models, kind: str) -> tuple[list[str], Rows]:
    """Texts and the vectors that are right."""
    said = models.references[kind]
    return [each["text"] for each in said["texts"]], np.array(
        [each["vectors"][said["pooling"]] for each in said["texts"]]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_transformers(engine: EngineType, ask: Ask, models: Models, kind: str) -> None:
    """Their length is what the files say; a GGUF does not say: then it is 1."""
    if engine is EngineType.VLLM and kind == "bert-cls":
        return  # it takes long to start, and pools another kind like that
    texts, right = known(models, kind)
    answer = ask(kind, "/v1/embeddings", input=texts)
    found = rows(answer)
    assert cosines(found, right).min() >= ALIKE
    normalized = kind != "xlmr-cls" or engine is EngineType.LLAMA_CPP
    wanted = np.ones(len(right)) if normalized else np.linalg.norm(right, axis=-1)
    assert np.linalg.norm(found, axis=-1) == pytest.approx(wanted, rel=1e-3)
    tokens = sum(len(each["ids"]) for each in models.references[kind]["texts"])
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (answer["object"], answer["model"]) == ("list", NAME)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wrong_would_be_seen(models: Models, kind: str) -> None:
    """Texts whose vectors differ; wrong poolings, and the prompt where none belongs, give others than what is right."""
    _, right = known(models, kind)
    mutual = unit(right) @ unit(right).T
    assert mutual[~np.eye(len(right), dtype=bool)].max() < DIFFERENT
    said = models.references[kind]
    for how in {"mean_tokens", "cls_token", "lasttoken"} - {said["pooling"]}:
        assert cosines([each["vectors"][how] for each in said["texts"]], right).min() < ALIKE, how
    prompted = [each["vectors"][said["pooling"]] for each in said["prompted"]]
    assert cosines(prompted, right).max() < ALIKE
    lengths = np.linalg.norm(right, axis=-1)
    assert abs(lengths - 1).min() > 0.01, "a vector that was not normalized would pass for one that was"


def test_the_prompts_of_the_files_are_put_before_texts(engine: EngineType, ask: Ask, models: Models) -> None:
    texts, right = known(models, "qwen3-last")
    if engine is EngineType.LLAMA_CPP:  # a GGUF has none
        error = ask("qwen3-last", "/v1/embeddings", 400, input=texts, prompt_name="query")
        assert error["param"] == "prompt_name"
        return
    said = models.references["qwen3-last"]
    prompted = [each["vectors"][said["pooling"]] for each in said["prompted"]]
    found = rows(ask("qwen3-last", "/v1/embeddings", input=texts, prompt_name="query"))
    assert cosines(found, prompted).min() >= ALIKE
    # Its default is the document's prompt, which is written here as nothing.
    assert cosines(rows(ask("qwen3-last", "/v1/embeddings", input=texts)), right).min() >= ALIKE


def test_vectors_are_cut_to_what_the_model_was_trained_for(engine: EngineType, ask: Ask, models: Models) -> None:
    texts, right = known(models, "qwen3-last")
    if engine is EngineType.LLAMA_CPP:  # a GGUF does not say
        assert ask("qwen3-last", "/v1/embeddings", 400, input=texts, dimensions=32)["param"] == "dimensions"
        return
    found = rows(ask("qwen3-last", "/v1/embeddings", input=texts, dimensions=32))
    assert found.shape == (len(texts), 32)
    assert np.linalg.norm(found, axis=-1) == pytest.approx(1, abs=1e-4)
    assert cosines(found, right[:, :32]).min() >= ALIKE
    error = ask("qwen3-last", "/v1/embeddings", 400, input=texts, dimensions=33)
    assert "64, 32, 16" in error["message"]


def test_layers_behind_the_pooling_are_computed_by_transformers_alone(
    engine: EngineType, ask: Ask, models: Models
) -> None:
    if engine is EngineType.LLAMA_CPP:  # a GGUF has none
        return
    if engine is EngineType.VLLM:
        refusal, _ = planned(models.path("bert-dense", engine), engine)
        assert isinstance(refusal, Refusal) and "Dense" in refusal.reason
        return
    texts, right = known(models, "bert-dense")
    assert right.shape == (len(texts), 48)
    found = rows(ask("bert-dense", "/v1/embeddings", input=texts))
    assert cosines(found, right).min() >= ALIKE
    assert np.linalg.norm(found, axis=-1) == pytest.approx(1, abs=1e-4)
    mutual = unit(right) @ unit(right).T
    assert mutual[~np.eye(len(right), dtype=bool)].max() < DIFFERENT


def test_company_changes_nothing(ask: Ask, models: Models) -> None:
    texts, _ = known(models, "bert-mean")
    many = [*texts, *(" ".join(texts[number % 5].split()[: 1 + number % 7]) for number in range(60))]
    together = rows(ask("bert-mean", "/v1/embeddings", input=many))
    for number in (0, 4, 30, 64):
        assert cosines(together[number], rows(ask("bert-mean", "/v1/embeddings", input=many[number]))[0]) > 0.99999


def test_token_ids_are_taken_as_they_are(ask: Ask, models: Models) -> None:
    ids = [each["ids"] for each in models.references["qwen3-last"]["texts"]]
    _, right = known(models, "qwen3-last")
    assert cosines(rows(ask("qwen3-last", "/v1/embeddings", input=ids)), right).min() >= ALIKE
    assert cosines(rows(ask("qwen3-last", "/v1/embeddings", input=ids[2]))[0], right[2]) >= ALIKE


def test_base64_is_the_same_numbers(ask: Ask, models: Models) -> None:
    texts, _ = known(models, "bert-mean")
    plain = rows(ask("bert-mean", "/v1/embeddings", input=texts, encoding_format="float"))
    coded = ask("bert-mean", "/v1/embeddings", input=texts, encoding_format="base64")
    read = [np.frombuffer(base64.b64decode(each["embedding"]), np.float32) for each in coded["data"]]
    assert np.array_equal(np.array(plain, np.float32), read)


def test_openai_python_reads_it(served: Callable[[str], Replica], models: Models) -> None:
    texts, right = known(models, "minilm")
    client = OpenAI(base_url=f"{served('minilm').url}/v1", api_key="none")
    answer = client.embeddings.create(model=NAME, input=texts, user="u", dimensions=right.shape[1])
    assert cosines([each.embedding for each in answer.data], right).min() >= ALIKE


RIGHT: Sequence[tuple[str, str]] = (
    ("How do I reset my password?", "To choose a new secret word, open the account page and follow the link we mail."),
    ("opening hours on weekends", "On Saturdays and Sundays the shop is open from ten to four."),
    ("my parcel has not arrived", "If a delivery is late, the tracking number shows where it is held up."),
    ("Can I get my money back?", "Refunds are paid within two weeks to the card that was charged."),
    ("the app crashes when I start it", "Install the latest version; older releases fail at launch on new phones."),
    ("vegan dishes", "Our menu has lentil soup, tofu curry and salads without any animal products."),
)
"""Questions, and the passages that answer them: with hardly a word in common."""


def test_the_right_passage_is_found(ask: Ask) -> None:
    questions = rows(ask("minilm", "/v1/embeddings", input=[question for question, _ in RIGHT]))
    passages = rows(ask("minilm", "/v1/embeddings", input=[passage for _, passage in RIGHT]))
    assert (questions @ passages.T).argmax(axis=1).tolist() == list(range(len(RIGHT)))


def test_a_longer_text_is_cut_where_that_is_asked_for(ask: Ask, models: Models) -> None:
    text, right = known(models, "bert-mean")
    long = " ".join([text[0]] * 40)
    cut = ask("bert-mean", "/v1/embeddings", input=[long, text[1]], truncate_prompt_tokens=-1)
    assert cosines(rows(cut)[1], right[1]) >= ALIKE
    whole = ask("bert-mean", "/v1/embeddings", input=long, truncate_prompt_tokens=9)
    same = ask("bert-mean", "/v1/embeddings", input=text[0])
    assert whole["usage"] == same["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert cosines(rows(whole)[0], rows(same)[0]) > 0.99999


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"input": ["good", ""]}, "input.1", "empty"),
    ({"input": ""}, "input", "empty"),
    ({"input": []}, "input", ""),
    ({"input": ["cat", " ".join(["cat"] * 500)]}, "input.1", "502"),
    ({"input": [[1, 2], [1, 999_999]]}, "input.1", "999999"),
    ({"input": [[2], [2] * 500]}, "input.1", "truncate_prompt_tokens"),
    ({"input": "cat", "dimensions": 7}, "dimensions", "64"),
    ({"input": "cat", "dimensions": 0}, "dimensions", ""),
    ({"input": "cat", "prompt_name": "poem"}, "prompt_name", "poem"),
    ({"input": "cat", "encoding_format": "int8"}, "encoding_format", "base64"),
    ({"input": "cat", "stream": True}, "stream", "not supported"),
    ({"input": ["a"] * 2049}, "input", "at most 2048"),
    ({"input": ["a"] * 2000 + [5]}, "input.2000", "string (got 5)"),
    ({"input": [[1, 2], "a"]}, "input.1", "list (got"),
    ({"input": {"text": "cat"}}, "input", "token ids"),
]


@pytest.mark.parametrize(("fields", "param", "words"), BAD)
def test_what_is_wrong_is_named(ask: Ask, fields: dict[str, Any], param: str, words: str) -> None:
    error = ask("bert-mean", "/v1/embeddings", 400, **fields)
    assert error["param"].split(".")[: param.count(".") + 1] == param.split("."), error
    assert words in error["message"], error


def test_a_body_of_100_mb_is_refused_by_its_size(served: Callable[[str], Replica], ask: Ask) -> None:
    error = ask("bert-mean", "/v1/embeddings", 413, input=["x" * (1 << 20)] * 100)
    assert error["code"] == "request_too_large"
    assert ask("bert-mean", "/v1/embeddings", input="cat")["data"]


def test_large_lists_are_read_apart_and_answered(ask: Ask, models: Models) -> None:
    """Bodies of more than 256 KiB are parsed in a process of their own."""
    words = known(models, "bert-mean")[0][4].split()
    many = [" ".join(words[number % 10 :] * 2) for number in range(2048)]
    answer = ask("bert-mean", "/v1/embeddings", input=many)
    found = rows(answer)
    assert len(found) == 2048
    assert cosines(found[7], found[17]) > 0.99999
    assert cosines(found[7], found[8]) < 0.99999


def test_a_request_of_many_texts_holds_up_nobody_and_ends_with_its_client(
    served: Callable[[str], Replica], ask: Ask, models: Models
) -> None:
    words = known(models, "bert-mean")[0][4].split()
    many = [" ".join(words[number % 10 :] * 4) for number in range(1000)]
    replica = served("bert-mean")
    api = Api(replica.url)
    with api.begun("/v1/embeddings", {"input": many}):
        assert len(ask("bert-mean", "/v1/embeddings", input="cat")["data"]) == 1
    replica.wait_for(lambda: api.metrics().value("vllm:num_requests_running") == 0)
    assert len(ask("bert-mean", "/v1/embeddings", input="cat")["data"]) == 1


def test_who_asks_for_text_learns_where_to_ask(ask: Ask) -> None:
    chat: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    for path, fields in (("/v1/chat/completions", chat), ("/v1/completions", {"prompt": "hi"})):
        error = ask("bert-mean", path, 400, **fields)
        assert (error["code"], error["param"]) == ("wrong_task", "model")
        assert "Embedding" in error["message"] and "/v1/embeddings" in error["message"]
    for path, fields in (
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
        ("/v1/score", {"text_1": "a", "text_2": "b"}),
    ):
        assert ask("bert-mean", path, 400, **fields)["code"] == "wrong_task"


def test_tokens_can_be_counted(ask: Ask, models: Models) -> None:
    first = models.references["bert-mean"]["texts"][0]
    assert ask("bert-mean", "/tokenize", prompt=first["text"])["tokens"] == first["ids"]


def test_it_is_measured(served: Callable[[str], Replica], ask: Ask) -> None:
    ask("bert-mean", "/v1/embeddings", input=["cat", "mat"])
    replica = served("bert-mean")
    told = Api(replica.url).send("/metrics").raw.decode()
    values = {line.split("{")[0]: float(line.split()[-1]) for line in told.splitlines() if not line.startswith("#")}
    assert values["vllm:prompt_tokens_total"] >= 6
    assert values["vllm:num_requests_running"] == 0
    assert replica.engine in EngineType


def test_the_client_of_the_page_finds_the_passage(served: Callable[[str], Replica]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    code = code.replace("http://127.0.0.1:8080", served("minilm").url).replace("apps/embedder", NAME)
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == "Refunds are paid within two weeks to the card that was charged.\n"


def test_every_field_has_a_way_to_see_that_it_is_honoured() -> None:
    rows = {(where, field.name) for field in FIELDS for where in field.where & POOLED if not field.no_op}
    assert PROBES.keys() == rows
    assert {field.name for field in FIELDS if field.no_op and field.where & POOLED} == {"user"}


def test_fields_show_in_the_answer(ask: Ask) -> None:
    fields_show(ask, "bert-mean", Where.EMBEDDINGS)
    nothing_changes(ask, "bert-mean", Where.EMBEDDINGS)
