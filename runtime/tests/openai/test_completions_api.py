"""Completions, token counting and model listing over HTTP, against a scripted engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmservice_runtime.protocol.engine import GrammarKind

SAID = [{"role": "user", "content": "x"}]


async def post(client: Any, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    reply = await client.post(path, json=body)
    return reply.status, await reply.json()


@pytest.mark.parametrize(
    ("prompt", "choices"),
    [("ab", 1), (["ab", "c"], 2), ([97, 98], 1), ([[97], [98], [99]], 3)],
)
async def test_every_form_of_prompt(connect: Any, scripted: Any, prompt: Any, choices: int) -> None:
    client = await connect(scripted())
    status, body = await post(client, "/v1/completions", prompt=prompt, n=2)
    assert status == 200
    assert body["object"] == "text_completion"
    assert [choice["index"] for choice in body["choices"]] == list(range(choices * 2))
    assert {choice["text"] for choice in body["choices"]} == {"Hello world"}
    assert body["usage"]["completion_tokens"] == choices * 2 * 2


async def test_a_stream_of_several_prompts(connect: Any, scripted: Any, events: Any) -> None:
    client = await connect(scripted())
    reply = await client.post("/v1/completions", json={"prompt": ["a", "b"], "stream": True, "echo": True})
    found = events(await reply.read())
    assert found[-1] == b"[DONE]"
    choices = [json.loads(event)["choices"][0] for event in found[:-1]]
    for index, prompt in enumerate("ab"):
        own = [choice for choice in choices if choice["index"] == index]
        assert "".join(choice["text"] for choice in own) == prompt + "Hello world"
        assert [choice["finish_reason"] for choice in own].count("stop") == 1


async def test_echo_with_logprobs_scores_the_prompt(connect: Any, scripted: Any) -> None:
    client = await connect(scripted())
    fields = {"prompt": "ab", "echo": True, "logprobs": 1, "add_special_tokens": False}
    _, body = await post(client, "/v1/completions", **fields)
    logprobs = body["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["a", "b", "Hello", " world"]
    assert logprobs["token_logprobs"] == [None, -0.5, -0.5, -0.5]
    assert logprobs["text_offset"] == [0, 1, 2, 7]
    assert logprobs["top_logprobs"][0] is None
    _, body = await post(client, "/v1/completions", **fields, max_tokens=0)
    assert body["choices"][0]["text"] == "ab"
    assert body["choices"][0]["logprobs"]["tokens"] == ["a", "b"]
    assert body["usage"]["completion_tokens"] == 0


async def test_token_ids_of_prompts_and_answers(connect: Any, scripted: Any, events: Any) -> None:
    client = await connect(scripted())
    fields = {"prompt": ["ab", "c"], "n": 2, "add_special_tokens": False, "return_token_ids": True}
    _, body = await post(client, "/v1/completions", **fields)
    told = [(choice["prompt_token_ids"], choice["token_ids"]) for choice in body["choices"]]
    assert told == [([97, 98], [1, 1])] * 2 + [([99], [1, 1])] * 2
    reply = await client.post("/v1/completions", json={**fields, "stream": True, "logprobs": 0, "echo": True})
    choices = [json.loads(event)["choices"][0] for event in events(await reply.read())[:-1]]
    for index, (prompt, tokens) in enumerate(told):
        own = [choice for choice in choices if choice["index"] == index]
        assert [choice.get("prompt_token_ids") for choice in own] == [prompt, *[None] * (len(own) - 1)]
        assert [token for choice in own for token in choice.get("token_ids", ())] == tokens
        assert own[0]["logprobs"]["token_ids"][0] == prompt[0]
    fields = {"prompt": "ab", "add_special_tokens": False, "return_token_ids": True, "echo": True, "max_tokens": 0}
    for logprobs in (None, 0):
        (choice,) = (await post(client, "/v1/completions", **fields, logprobs=logprobs))[1]["choices"]
        assert (choice["text"], choice["prompt_token_ids"], choice["token_ids"]) == ("ab", [97, 98], [])


async def test_echo_without_generating(connect: Any, scripted: Any) -> None:
    engine = scripted()
    client = await connect(engine)
    _, body = await post(client, "/v1/completions", prompt="ab", echo=True, max_tokens=0)
    assert body["choices"][0]["text"] == "ab"
    assert not engine.requests


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [9999]}, "prompt"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "min_tokens": 20}, "min_tokens"),
        ({"prompt": "x", "logit_bias": {"9999": 1}}, "logit_bias"),
        ({"prompt": "x", "stop_token_ids": [9999]}, "stop_token_ids"),
        ({"prompt": ["x"] * 100, "n": 2}, "prompt"),
    ],
)
async def test_refusals(connect: Any, scripted: Any, fields: dict[str, Any], param: str) -> None:
    client = await connect(scripted(tokenizer=_NoBegin(scripted)))
    status, body = await post(client, "/v1/completions", **fields)
    assert (status, body["error"]["param"]) == (400, param)


def _NoBegin(scripted: Any) -> Any:
    tokenizer = scripted().tokenizer
    encode = tokenizer.encode
    tokenizer.encode = lambda text, *, add_special, parse_special: encode(text, add_special=False, parse_special=True)
    return tokenizer


async def test_a_grammar_that_the_engine_refuses_names_its_field(connect: Any, scripted: Any) -> None:
    client = await connect(scripted(bad_grammar="unbalanced parenthesis"))
    status, body = await post(client, "/v1/completions", prompt="x", guided_regex="(")
    assert (status, body["error"]["param"]) == (400, "guided_regex")
    assert "unbalanced" in body["error"]["message"]


async def test_sampling_reaches_the_engine(connect: Any, scripted: Any) -> None:
    engine = scripted()
    client = await connect(engine)
    fields = {
        "temperature": 0.5, "top_p": 0.9, "top_k": -1, "min_p": 0.1, "seed": 7, "presence_penalty": 1,
        "frequency_penalty": -1, "repetition_penalty": 1.2, "logit_bias": {"5": -100}, "stop": ["a", "b"],
        "stop_token_ids": [3], "ignore_eos": True, "min_tokens": 2, "include_stop_str_in_output": True,
        "guided_choice": ["yes", "no"],
    }  # fmt: skip
    await post(client, "/v1/completions", prompt="x", **fields)
    params = engine.requests[0].params
    assert params.top_k == 0
    assert params.logit_bias == {5: -100}
    assert params.stop == ("a", "b")
    for name in (
        "temperature",
        "top_p",
        "min_p",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
    ):
        assert getattr(params, name) == fields[name]
    assert params.grammar.kind is GrammarKind.LARK
    assert params.max_tokens == 16


async def test_counting_tokens(connect: Any, scripted: Any) -> None:
    client = await connect(scripted())
    _, body = await post(client, "/tokenize", prompt="ab", return_token_strs=True)
    assert body == {"count": 3, "max_model_len": 512, "tokens": [256, 97, 98], "token_strs": ["", "a", "b"]}
    _, body = await post(client, "/tokenize", messages=SAID)
    _, text = await post(client, "/detokenize", tokens=body["tokens"])
    assert text["prompt"] == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
    tool = {"type": "function", "function": {"name": "f"}}
    for field, fields in (("messages", {"messages": []}), ("tools", {"messages": SAID, "tools": [tool] * 129})):
        status, body = await post(client, "/tokenize", **fields)
        assert (status, body["error"]["param"]) == (400, field)
    status, body = await post(client, "/tokenize")
    assert (status, body["error"]["param"]) == (400, "prompt")
    status, body = await post(client, "/detokenize", tokens=[99999])
    assert (status, body["error"]["param"]) == (400, "tokens")


async def test_models(connect: Any, scripted: Any) -> None:
    client = await connect(scripted(), model_name="apps/demo", aliases=("demo",))
    body = await (await client.get("/v1/models")).json()
    assert [card["id"] for card in body["data"]] == ["apps/demo", "demo"]
    assert body["data"][0]["max_model_len"] == 512
    assert (await (await client.get("/v1/models/apps/demo")).json())["id"] == "apps/demo"
    assert (await client.get("/models/other")).status == 404
