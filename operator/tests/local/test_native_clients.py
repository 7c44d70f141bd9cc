"""The clients of Ollama, TGI and Xinference, as they are, against the real gateway before real engines; and several
models behind one URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import openai
import pytest
import text_generation
from huggingface_hub import InferenceClient
from machine_world import Here, until  # type: ignore[import-not-found]
from text_generation.errors import NotFoundError, ValidationError
from xinference_client import RESTfulClient

pytestmark = pytest.mark.engine
QUESTION = "What is LLMService?"
ANSWER = "LLMService is a Kubernetes operator"
USER: list[Any] = [{"role": "user", "content": QUESTION}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city.", "parameters": SCHEMA},
}
ASK = "What is the weather in Paris?"


@pytest.fixture
def root(zoo: Here) -> str:
    return str(zoo.snapshot()["url"].removesuffix("/v1"))


@pytest.fixture
def client(root: str) -> Iterator[ollama.Client]:
    with ollama.Client(root) as made:
        yield made


def asleep(zoo: Here) -> None:
    until(lambda: zoo.service("cold")["object"]["status"]["readyReplicas"] == 0)


def test_models_are_switched_by_name_and_cold_ones_woken(zoo: Here) -> None:
    """FastChat's and Ollama's way of working: one URL, `model` says which."""
    with openai.OpenAI(base_url=zoo.snapshot()["url"], api_key="none", max_retries=0, timeout=240) as client:
        asleep(zoo)
        names = [model.id for model in client.models.list()]
        assert names == ["default/cold", "default/demo", "default/scores", "default/vectors"]

        def answer(model: str) -> str:
            said = client.chat.completions.create(model=model, messages=USER, temperature=0, max_tokens=50)
            return said.choices[0].message.content or ""

        assert answer("demo").startswith(ANSWER)
        assert answer("cold") == answer("default/demo"), "it was woken, and is the same model"
        vectors = client.embeddings.create(model="vectors", input=["a cat", "a kitten"]).data
        assert len(vectors) == 2 and len(vectors[0].embedding) == 384
        with pytest.raises(openai.BadRequestError, match="/v1/embeddings"):
            answer("vectors")
        with pytest.raises(openai.NotFoundError, match="default/cold, default/demo"):
            answer("nobody")
        asleep(zoo)
        assert client.completions.create(model="cold", prompt="LLMService", max_tokens=2).choices[0].text


def test_ollama_lists_what_is_served(zoo: Here, client: ollama.Client) -> None:
    asleep(zoo)
    models = {model.model: model for model in client.list().models}
    assert list(models) == [f"default/{name}:latest" for name in ("cold", "demo", "scores", "vectors")]
    details = models["default/demo:latest"].details
    assert details is not None and (details.format, details.quantization_level) == ("gguf", "Q4_K_M")
    assert (models["default/demo:latest"].size or 0) > 1_000_000
    running = [model.model for model in client.ps().models]
    assert "default/demo:latest" in running and "default/cold:latest" not in running
    assert client.show("demo").capabilities == ["completion", "tools"]
    assert client.show("vectors").capabilities == ["embedding"]
    assert client.show("demo:latest").modelinfo


def test_ollama_chats_whole_and_streamed(client: ollama.Client) -> None:
    options = {"temperature": 0, "num_predict": 100}
    whole = client.chat("demo", USER, options=options)
    lines = list(client.chat("demo:latest", USER, options=options, stream=True))
    text = "".join(line.message.content or "" for line in lines)
    assert whole.message.content == text and text.startswith(ANSWER) and len(lines) > 1
    last = lines[-1]
    assert last.done and last.done_reason == whole.done_reason == "stop" and last.model == "demo:latest"
    assert last.eval_count == whole.eval_count and (last.eval_count or 0) > 5
    assert last.eval_duration and last.prompt_eval_duration and last.total_duration and whole.eval_duration
    assert last.total_duration >= last.eval_duration
    cut = client.generate("demo", QUESTION, options={"temperature": 0, "num_predict": 3})
    assert cut.done_reason == "length" and cut.eval_count == 3 and ANSWER.startswith(cut.response or "?")
    raw = client.generate("demo", "The early bird", raw=True, options={"num_predict": 4, "temperature": 0})
    assert raw.response and raw.eval_count == 4


def test_ollama_wakes_a_cold_model_and_loads_one_without_a_question(zoo: Here, client: ollama.Client) -> None:
    asleep(zoo)
    loaded = client.generate("cold")
    assert loaded.done_reason == "load"
    asleep(zoo)
    lines = list(client.chat("cold", USER, options={"temperature": 0, "num_predict": 5}, stream=True))
    assert lines[-1].done and (lines[-1].load_duration or 0) > 10_000_000, "it waited for the model"


@pytest.mark.parametrize("streams", [False, True])
def test_ollama_calls_tools(client: ollama.Client, streams: bool) -> None:
    turns: list[Any] = [{"role": "user", "content": ASK}]

    def said(**more: Any) -> Any:
        asked: Any = {"model": "demo", "messages": turns, "options": {"temperature": 0, "num_predict": 200}, **more}
        if not streams:
            return client.chat(**asked).message
        lines = list(client.chat(**asked, stream=True))
        calls = [call for line in lines for call in line.message.tool_calls or ()]
        content = "".join(line.message.content or "" for line in lines)
        return ollama.Message(role="assistant", content=content, tool_calls=calls or None)

    message = said(tools=[TOOL])
    (call,) = message.tool_calls or [None]
    assert call and call.function.name == "get_weather" and "Paris" in call.function.arguments["city"]
    turns += [message, {"role": "tool", "content": "21 degrees", "tool_name": "get_weather"}]
    assert said().content


def test_ollama_holds_answers_to_a_schema(client: ollama.Client) -> None:
    schema = {**SCHEMA, "properties": {"city": {"enum": ["Paris", "Rome"]}}, "additionalProperties": False}
    answer = client.chat("demo", [{"role": "user", "content": ASK}], format=schema, options={"num_predict": 100})
    assert set(json.loads(answer.message.content or "")) == {"city"}
    probed = client.chat("demo", USER, logprobs=True, top_logprobs=2, options={"num_predict": 2})
    assert probed.logprobs and len(probed.logprobs[0].top_logprobs or ()) == 2


def test_ollama_embeds(client: ollama.Client) -> None:
    near, far, other = client.embed("vectors", ["a cat", "a kitten", "the stock market"]).embeddings
    assert sum(map(float.__mul__, near, far)) > sum(map(float.__mul__, near, other))
    assert client.embeddings("vectors", "a cat").embedding == pytest.approx(near, abs=1e-5)
    assert len(client.embed("vectors", "word " * 2000).embeddings) == 1, "what is too long is cut, as Ollama does"
    with pytest.raises(ollama.ResponseError, match="input"):
        client.embed("vectors", "word " * 2000, truncate=False)


def test_ollama_is_told_what_is_wrong(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="Served here: default/cold") as missing:
        client.chat("nobody", USER)
    assert missing.value.status_code == 404
    for options, names in (
        ({"num_ctx": 1_000_000}, "options.num_ctx"),
        ({"temperature": 9}, "options.temperature"),
        ({"mirostat": 1}, "options.mirostat"),
    ):
        with pytest.raises(ollama.ResponseError, match=names):
            list(client.chat("demo", USER, options=options, stream=True))
    with pytest.raises(ollama.ResponseError, match="llmservice up -f FILE") as pulled:
        client.pull("llama3")
    assert pulled.value.status_code == 501


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
def test_tgis_client_generates(root: str) -> None:
    tgi = text_generation.Client(f"{root}/default/demo", timeout=60)
    whole = tgi.generate("The early bird", max_new_tokens=4)
    assert whole.details.generated_tokens == 4 and whole.details.finish_reason.value == "length"
    ids = [token.id for token in whole.details.tokens]
    with httpx.Client(base_url=f"{root}/default/demo/v1") as own:
        shown = own.post("/detokenize", json={"tokens": ids}).json()["prompt"]
        prompt = own.post("/tokenize", json={"prompt": "The early bird"}).json()["tokens"]
    assert shown == whole.generated_text
    assert "".join(token.text for token in whole.details.tokens) == whole.generated_text
    events = list(tgi.generate_stream("The early bird", max_new_tokens=4))
    text = "".join(event.token.text for event in events if not event.token.special)
    assert text == events[-1].generated_text == whole.generated_text
    assert [event.token.id for event in events if not event.token.special] == ids
    assert events[-1].details and events[-1].details.generated_tokens == 4
    assert events[0].token.logprob is not None
    seen = tgi.generate("The early bird", max_new_tokens=4, decoder_input_details=True)
    assert [token.id for token in seen.details.prefill] == prompt and seen.generated_text == whole.generated_text
    assert [token.id for token in seen.details.tokens] == ids
    ended = tgi.generate("The early bird", max_new_tokens=4, stop_sequences=[whole.details.tokens[1].text]).details
    assert [token.id for token in ended.tokens] == ids[:2]
    full = tgi.generate("The early bird", max_new_tokens=2, return_full_text=True).generated_text
    assert full.startswith("The early bird")
    with pytest.raises(ValidationError, match=r"parameters\.typical_p"):
        tgi.generate("Hi", typical_p=0.5)
    with pytest.raises(ValidationError):
        text_generation.Client(f"{root}/default/vectors", timeout=60).generate("Hi")
    with pytest.raises(NotFoundError, match="default/nobody"):
        text_generation.Client(f"{root}/default/nobody", timeout=60).generate("Hi")


def test_hugging_faces_client_generates_and_chats(root: str) -> None:
    with InferenceClient(f"{root}/default/demo", timeout=60) as hub:
        told = hub.text_generation("The early bird", max_new_tokens=4, details=True)
        assert told.details and told.details.generated_tokens == 4
        streamed = "".join(hub.text_generation("The early bird", max_new_tokens=4, stream=True))
        assert streamed == told.generated_text
        said = hub.chat_completion(USER, max_tokens=50, temperature=0)
        assert (said.choices[0].message.content or "").startswith(ANSWER)


def test_xinferences_client_finds_and_asks_models(zoo: Here, root: str) -> None:
    asleep(zoo)
    client = RESTfulClient(root)
    listed = client.list_models()
    assert listed["default/demo"]["model_uid"] == "default.demo" and listed["default/demo"]["model_type"] == "LLM"
    cold = client.describe_model("default.cold")  # D20: also at zero
    assert cold["context_length"] and cold["model_format"] == "ggufv2" and "chat" in cold["model_ability"]
    chat = client.get_model("default.demo")
    said = chat.chat(USER, generate_config={"max_tokens": 50, "temperature": 0})
    assert said["choices"][0]["message"]["content"].startswith(ANSWER)
    streamed = chat.chat(USER, generate_config={"max_tokens": 50, "temperature": 0, "stream": True})
    text = "".join(each["choices"][0]["delta"].get("content") or "" for each in streamed if each["choices"])
    assert text == said["choices"][0]["message"]["content"]
    assert client.get_model("default.demo").generate("The early", {"max_tokens": 2})["choices"][0]["text"]
    vectors = client.get_model("default.vectors").create_embedding(["a cat"])["data"]
    assert len(vectors[0]["embedding"]) == 384
    ranked = client.get_model("default.scores").rerank(["a cat", "a dog"], "pets", return_documents=True)
    assert sorted(row["document"]["text"] for row in ranked["results"]) == ["a cat", "a dog"]
    assert "LlamaCpp" in client.query_engine_by_model_name("demo")
    with pytest.raises(RuntimeError, match="kubectl apply"):
        client.launch_model("qwen", model_engine="vllm")
    with pytest.raises(RuntimeError, match="kubectl delete"):
        client.terminate_model("default.demo")
    with pytest.raises(RuntimeError, match=r"nobody.*Served here"):
        client.get_model("nobody")
