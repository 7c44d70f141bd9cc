"""For each field of a request: what to send, and how to see that it was honoured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_runtime.openai.requests.table import Where

from .api import ANSWER, CHAT, MESSAGES, QUESTION, TEXT, TOKENIZE, Api, text_of
from .engines import ALIAS, NAME

Check = Callable[[Api], None]


@dataclass(frozen=True)
class Probe:
    """`sample` says the field, other than by default; `check` sees its effect."""

    sample: Mapping[str, Any]
    check: Check


PROBES: dict[tuple[Where, str], Probe] = {}


def probe(name: str, *where: Where, **sample: Any) -> Callable[[Check], Check]:
    """Registers how the field `name` of these endpoints (both that generate, when none is named) is tried."""

    def register(check: Check) -> Check:
        for place in where or (Where.CHAT, Where.COMPLETIONS):
            PROBES[place, name] = Probe(sample, check)
        return check

    return register


WILD: dict[str, Any] = {"temperature": 2, "seed": 7, "max_tokens": 12, "ignore_eos": True}
"""Many tokens are likely; what narrows the choice is seen."""
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
LARK = 'start: "yes" | "no"'


def texts(body: Any) -> list[str]:
    return [choice["text"] for choice in body["choices"]]


@probe("model", Where.CHAT, Where.COMPLETIONS, model="other")
def _(api: Api) -> None:
    for path, body in ((CHAT, {"messages": MESSAGES}), (TEXT, {"prompt": "x"})):
        assert NAME in api.refused(path, {**body, "model": "other"}, 404)["message"]
        assert api.send(path, {**body, "model": ALIAS, "max_tokens": 1}).body["model"] == ALIAS


@probe("model", Where.TOKENIZE, Where.DETOKENIZE, model="other")
def _(api: Api) -> None:
    for path, body in ((TOKENIZE, {"prompt": "x"}), ("/detokenize", {"tokens": [300]})):
        assert api.refused(path, {**body, "model": "other"}, 404)["param"] == "model"
        assert api.send(path, {**body, "model": ALIAS}).status == 200


@probe("stream", stream=True)
def _(api: Api) -> None:
    assert text_of(api.chunks()) == ANSWER
    assert text_of(api.chunks(TEXT, max_tokens=9)) == texts(api.complete(max_tokens=9))[0]


@probe("stream_options.include_usage", stream=True, stream_options={"include_usage": True})
def _(api: Api) -> None:
    for path in (CHAT, TEXT):
        *before, last = api.chunks(path, stream_options={"include_usage": True})
        assert last["choices"] == [] and last["usage"]["completion_tokens"] > 0
        assert not any(chunk.get("usage") for chunk in before)
        assert all(chunk["choices"] for chunk in api.chunks(path))


@probe("stream_options.continuous_usage_stats", stream=True, stream_options={"continuous_usage_stats": True})
def _(api: Api) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    for path in (CHAT, TEXT):
        counts = [chunk["usage"]["completion_tokens"] for chunk in api.chunks(path, stream_options=options)]
        assert counts == sorted(counts) and counts[-1] > 0


@probe("n", n=2)
def _(api: Api) -> None:
    assert [choice["index"] for choice in api.chat(n=3)["choices"]] == [0, 1, 2]
    assert texts(api.complete(n=2, max_tokens=5)) == 2 * texts(api.complete(max_tokens=5))
    streamed = api.chunks(n=2)
    assert text_of(streamed, 0) == text_of(streamed, 1) == ANSWER


@probe("temperature", temperature=0.5)
def _(api: Api) -> None:
    assert len(set(texts(api.complete(**WILD, n=4)))) == 4
    assert len(set(texts(api.complete(**WILD | {"temperature": 0}, n=4)))) == 1


def _narrow(**fields: Any) -> Check:
    """Of many likely tokens the likeliest alone is left: the greedy answer."""

    def check(api: Api) -> None:
        greedy = texts(api.complete(**WILD | {"temperature": 0}))
        assert texts(api.complete(**WILD, **fields)) == greedy != texts(api.complete(**WILD))

    return check


probe("top_p", top_p=0.1)(_narrow(top_p=0.0001))
probe("top_k", top_k=1)(_narrow(top_k=1))
probe("min_p", min_p=0.5)(_narrow(min_p=1))


@probe("seed", seed=5)
def _(api: Api) -> None:
    first, again, other = (texts(api.complete(**WILD | {"seed": seed})) for seed in (5, 5, 6))
    assert first == again != other


def _penal(name: str, value: float) -> Check:
    """Where one of two words is said again and again, the other is said too: tried where they are about as likely."""

    def check(api: Api) -> None:
        (one,), (other,) = api.tokens(" the"), api.tokens(" of")

        def said(more: int, **fields: Any) -> set[str]:
            bias = {str(one): 80, str(other): 80 + more}
            (text,) = texts(api.complete(max_tokens=8, ignore_eos=True, logit_bias=bias, **fields))
            return set(text.split())

        tried = [(said(more), said(more, **{name: value})) for more in range(-9, 10)]
        assert any(len(plain) < len(penal) for plain, penal in tried)

    return check


probe("presence_penalty", presence_penalty=1)(_penal("presence_penalty", 2))
probe("frequency_penalty", frequency_penalty=1)(_penal("frequency_penalty", 2))
probe("repetition_penalty", repetition_penalty=1.5)(_penal("repetition_penalty", 2))


@probe("logit_bias", logit_bias={"300": 5})
def _(api: Api) -> None:
    (first, *_), (wanted, *_) = api.tokens(ANSWER), api.tokens(" bee")
    assert not api.say(logit_bias={str(first): -100}, max_tokens=8).startswith("The")
    assert texts(api.complete(logit_bias={str(wanted): 100}, max_tokens=3)) == [
        3 * api.send("/detokenize", {"tokens": [wanted]}).body["prompt"]
    ]


@probe("stop", stop=["Helsinki"])
def _(api: Api) -> None:
    before = ANSWER[: ANSWER.index("Finland")]
    for stop in ("Finland", ["nowhere", "Finland"], ["land", "Fin"]):
        assert api.say(stop=stop) == before
    assert text_of(api.chunks(stop="Finland")) == before


@probe("stop_token_ids", stop_token_ids=[300])
def _(api: Api) -> None:
    third = api.tokens(ANSWER)[2]
    choice = api.chat(stop_token_ids=[third])["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", third)
    assert ANSWER.startswith(choice["message"]["content"]) and len(choice["message"]["content"]) < len(ANSWER)


@probe("include_stop_str_in_output", include_stop_str_in_output=True, stop="x")
def _(api: Api) -> None:
    assert api.say(stop="Finland", include_stop_str_in_output=True) == ANSWER[: ANSWER.index("Finland") + 7]


@probe("ignore_eos", ignore_eos=True)
def _(api: Api) -> None:
    assert api.chat(ignore_eos=True, max_tokens=40)["usage"]["completion_tokens"] == 40
    for hidden in (True, False):  # an end token that ends nothing is in the log-probabilities where it is in the text
        fields: dict[str, Any] = {"ignore_eos": True, "max_tokens": 40, "skip_special_tokens": hidden}
        chat = api.chat(**fields, logprobs=True)["choices"][0]
        whole = "".join(entry["token"] for entry in chat["logprobs"]["content"])
        chunks = [chunk["choices"][0] for chunk in api.chunks(**fields, logprobs=True) if chunk["choices"]]
        told = [entry for choice in chunks if choice["logprobs"] for entry in choice["logprobs"]["content"]]
        assert "".join(entry["token"] for entry in told) == whole == chat["message"]["content"]
        text = api.complete(**fields, logprobs=0)["choices"][0]
        assert "".join(text["logprobs"]["tokens"]) == text["text"]
        assert ("<|im_end|>" in whole) is not hidden


@probe("skip_special_tokens", skip_special_tokens=False)
def _(api: Api) -> None:
    assert "<|im_end|>" in api.say(skip_special_tokens=False, ignore_eos=True, max_tokens=40)
    assert "<|im_end|>" not in api.say(ignore_eos=True, max_tokens=40)


@probe("min_tokens", min_tokens=2)
def _(api: Api) -> None:
    usual = api.chat()["usage"]["completion_tokens"]
    longer = api.chat(min_tokens=usual + 5, max_tokens=usual + 20)["usage"]["completion_tokens"]
    assert usual + 5 <= longer <= usual + 20


@probe("add_special_tokens", Where.CHAT, add_special_tokens=True)
def _(api: Api) -> None:
    """The demo model's tokenizer adds none: the prompts are as long."""
    assert api.chat(add_special_tokens=True)["usage"]["prompt_tokens"] == api.chat()["usage"]["prompt_tokens"]


@probe("add_special_tokens", Where.COMPLETIONS, Where.TOKENIZE, add_special_tokens=False)
def _(api: Api) -> None:
    for special in (True, False):
        used = api.complete(max_tokens=1, add_special_tokens=special)["usage"]["prompt_tokens"]
        assert api.send(TOKENIZE, {"prompt": "What is", "add_special_tokens": special}).body["count"] == used


def _held(pattern: str, **fields: Any) -> Check:
    """Answers of both endpoints, whole and streamed, match the pattern from end to end."""

    def check(api: Api) -> None:
        for found in (
            api.say(**fields, max_tokens=80),
            texts(api.complete(**fields, max_tokens=80))[0],
            text_of(api.chunks(**fields, max_tokens=80)),
        ):
            assert re.fullmatch(pattern, found), found

    return check


def _schema(format: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": format}}


OBJECT = r'\{\s*"a"\s*:\s*[12]\s*\}'
NUMBER = "[0-9]{3}-[a-f]{2}"


@probe("response_format.type", response_format={"type": "json_object"})
def _(api: Api) -> None:
    fields = {"max_tokens": 200, "response_format": {"type": "json_object"}}
    for text in (api.say(**fields), texts(api.complete(**fields))[0]):
        assert text.lstrip().startswith("{")
    assert api.say(response_format={"type": "text"}) == ANSWER


@probe("response_format.json_schema", **_schema({"name": "x", "schema": SCHEMA}))
def _(api: Api) -> None:
    for format in (SCHEMA, {"schema": SCHEMA}, {"name": "x", "schema": SCHEMA, "strict": True}):
        _held(OBJECT, **_schema(format))(api)
    assert (
        api.refused(CHAT, {"messages": MESSAGES, **_schema({"name": "x"})})["param"]
        == "response_format.json_schema.schema"
    )


for _name, _value, _pattern in (
    ("json", SCHEMA, OBJECT),
    ("regex", NUMBER, NUMBER),
    ("choice", ["yes", 'n"o'], 'yes|n"o'),
    ("grammar", LARK, "yes|no"),
):
    probe(f"structured_outputs.{_name}", structured_outputs={_name: _value})(
        _held(_pattern, structured_outputs={_name: _value})
    )
    probe(f"guided_{_name}", **{f"guided_{_name}": _value})(_held(_pattern, **{f"guided_{_name}": _value}))


@probe("structured_outputs.json_object", structured_outputs={"json_object": True})
def _(api: Api) -> None:
    assert api.say(structured_outputs={"json_object": True}, max_tokens=200).lstrip().startswith("{")


@probe("messages", Where.CHAT, messages=MESSAGES)
def _(api: Api) -> None:
    parts = [{"type": "text", "text": QUESTION}]
    assert api.say(messages=[{"role": "user", "content": parts}]) == ANSWER
    system = [
        api.chat(messages=[{"role": role, "content": "Be brief."}, *MESSAGES]) for role in ("system", "developer")
    ]
    assert len({body["usage"]["prompt_tokens"] for body in system}) == 1
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]
    assert api.refused(CHAT, {"messages": image})["param"].startswith("messages.0.content.0")
    assert api.refused(CHAT, {"messages": [{"role": "robot", "content": "x"}]})["param"] == "messages.0.role"


@probe("messages", Where.TOKENIZE, messages=MESSAGES)
def _(api: Api) -> None:
    assert api.send(TOKENIZE, {"messages": MESSAGES}).body["count"] == api.chat()["usage"]["prompt_tokens"]
    assert api.refused(TOKENIZE, {"messages": MESSAGES, "prompt": "x"})["param"] == "prompt"


@probe("max_tokens", Where.CHAT, max_tokens=3)
def _(api: Api) -> None:
    assert api.chat(max_tokens=3)["usage"]["completion_tokens"] == 3
    assert api.say(max_tokens=3, max_completion_tokens=3)
    both = {"messages": MESSAGES, "max_tokens": 3, "max_completion_tokens": 4}
    assert api.refused(CHAT, both)["param"] == "max_tokens"


@probe("max_completion_tokens", Where.CHAT, max_completion_tokens=3)
def _(api: Api) -> None:
    assert api.chat(max_completion_tokens=3)["usage"]["completion_tokens"] == 3


@probe("max_tokens", Where.COMPLETIONS, max_tokens=3)
def _(api: Api) -> None:
    assert api.complete(max_tokens=3, ignore_eos=True)["usage"]["completion_tokens"] == 3
    assert api.complete(ignore_eos=True)["usage"]["completion_tokens"] == 16
    assert texts(api.complete(max_tokens=0, echo=True)) == ["What is"]
    assert api.refused(TEXT, {"prompt": "x", "max_tokens": 0})["param"] == "max_tokens"


@probe("return_token_ids", return_token_ids=True)
def _(api: Api) -> None:
    def shown(tokens: list[int]) -> str:
        text: str = api.send("/detokenize", {"tokens": tokens}).body["prompt"]
        return text

    def streamed(path: str, **fields: Any) -> tuple[list[int], list[list[int]]]:
        chunks = api.chunks(path, return_token_ids=True, **fields)
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        prompts = [at["prompt_token_ids"] for at in (*chunks, *choices) if at.get("prompt_token_ids")]
        assert chunks[0].get("prompt_token_ids") or choices[0].get("prompt_token_ids")
        return [token for choice in choices for token in choice.get("token_ids") or ()], prompts

    chat = api.chat(return_token_ids=True)
    (choice,) = chat["choices"]
    assert shown(choice["token_ids"][:-1]) == ANSWER
    assert len(choice["token_ids"]) == chat["usage"]["completion_tokens"], "the token that ended it as well"
    assert chat["prompt_token_ids"] == api.send(TOKENIZE, {"messages": MESSAGES}).body["tokens"]
    assert streamed(CHAT) == (choice["token_ids"], [chat["prompt_token_ids"]])
    assert streamed(CHAT, logprobs=True) == streamed(CHAT)
    prompt = api.send(TOKENIZE, {"prompt": "What is"}).body["tokens"]
    (choice,) = api.complete(return_token_ids=True, max_tokens=3)["choices"]
    assert len(choice["token_ids"]) == 3
    assert shown(choice["token_ids"]) == choice["text"]
    assert choice["prompt_token_ids"] == prompt
    assert streamed(TEXT, max_tokens=3) == (choice["token_ids"], [prompt])
    two = api.complete(return_token_ids=True, max_tokens=3, n=2)["choices"]
    assert [one["token_ids"] for one in two] == 2 * [choice["token_ids"]]
    assert not api.complete(max_tokens=2)["choices"][0].get("token_ids"), "not asked for"
    for unwanted in ({"include_reasoning": False}, {"reasoning_format": "hidden"}):
        error = api.refused(CHAT, {"messages": MESSAGES, "return_token_ids": True, **unwanted})
        assert (error["param"], error["code"]) == ("return_token_ids", "unsupported_parameter")
    _ids_beside_logprobs(api, choice["token_ids"], prompt)


def _ids_beside_logprobs(api: Api, ids: list[int], prompt: list[int]) -> None:
    """Of completions, with the prompt before them and without."""
    fields: dict[str, Any] = {"return_token_ids": True, "logprobs": 0, "max_tokens": len(ids)}

    def streamed(**more: Any) -> tuple[list[int], str]:
        choices = [choice for chunk in api.chunks(TEXT, **fields, **more) for choice in chunk["choices"]]
        told = [token for choice in choices for token in (choice["logprobs"] or {}).get("token_ids", ())]
        return told, "".join(choice["text"] for choice in choices)

    plain, echoed = (api.complete(**fields, echo=echo)["choices"][0] for echo in (False, True))
    assert plain["logprobs"]["token_ids"] == plain["token_ids"] == echoed["token_ids"] == ids
    assert streamed() == (ids, plain["text"])
    assert echoed["logprobs"]["token_ids"] == [*prompt, *ids] and len(echoed["logprobs"]["tokens"]) == len(prompt + ids)
    assert echoed["text"] == "What is" + plain["text"]
    assert streamed(echo=True) == ([*prompt, *ids], echoed["text"])
    (only,) = api.complete(**{**fields, "max_tokens": 0}, echo=True)["choices"]
    assert (only["text"], only["token_ids"], only["logprobs"]["token_ids"]) == ("What is", [], prompt)
    # A token that ends an answer is no text, and has no place among the log-probabilities of it.
    ended = api.complete(**{**fields, "max_tokens": 60}, stop_token_ids=[ids[2]])["choices"][0]
    assert ended["token_ids"] == ids and ended["logprobs"]["token_ids"] == ids[:2]


@probe("logprobs", Where.CHAT, logprobs=True)
def _(api: Api) -> None:
    choice = api.chat(logprobs=True)["choices"][0]
    assert "".join(entry["token"] for entry in choice["logprobs"]["content"]) == ANSWER
    for entry in choice["logprobs"]["content"]:
        assert entry["logprob"] <= 0 and bytes(entry["bytes"]).decode() == entry["token"]
        assert entry["top_logprobs"] == []
    streamed = [choice for chunk in api.chunks(logprobs=True) for choice in chunk["choices"] if choice.get("logprobs")]
    assert "".join(entry["token"] for choice in streamed for entry in choice["logprobs"]["content"]) == ANSWER
    assert not api.chat()["choices"][0]["logprobs"]


@probe("top_logprobs", Where.CHAT, logprobs=True, top_logprobs=2)
def _(api: Api) -> None:
    for entry in api.chat(logprobs=True, top_logprobs=3)["choices"][0]["logprobs"]["content"]:
        best = [other["logprob"] for other in entry["top_logprobs"]]
        assert len(best) == 3 and best == sorted(best, reverse=True)
        assert entry["top_logprobs"][0]["token"] == entry["token"], "greedy"
    assert api.refused(CHAT, {"messages": MESSAGES, "top_logprobs": 3})["param"] == "top_logprobs"


@probe("logprobs", Where.COMPLETIONS, logprobs=2)
def _(api: Api) -> None:
    choice = api.complete(logprobs=2, max_tokens=6)["choices"][0]
    told = choice["logprobs"]
    assert "".join(told["tokens"]) == choice["text"]
    assert len(told["tokens"]) == len(told["token_logprobs"]) == len(told["top_logprobs"]) == len(told["text_offset"])
    assert all(value <= 0 for value in told["token_logprobs"]) and all(len(top) >= 2 for top in told["top_logprobs"])
    assert told["text_offset"] == [len("".join(told["tokens"][:n])) for n in range(len(told["tokens"]))]


@probe("echo", Where.COMPLETIONS, echo=True)
def _(api: Api) -> None:
    plain = texts(api.complete(max_tokens=4))[0]
    choice = api.complete(max_tokens=4, echo=True, logprobs=1)["choices"][0]
    assert choice["text"] == "What is" + plain
    told = choice["logprobs"]
    assert "".join(told["tokens"]) == choice["text"] and told["token_logprobs"][0] is None
    assert all(value <= 0 for value in told["token_logprobs"][1:])
    assert text_of(api.chunks(TEXT, max_tokens=4, echo=True)) == "What is" + plain


@probe("best_of", Where.COMPLETIONS, n=2, best_of=2)
def _(api: Api) -> None:
    assert len(api.complete(n=2, best_of=2, max_tokens=2)["choices"]) == 2
    assert api.refused(TEXT, {"prompt": "x", "best_of": 3})["param"] == "best_of"


@probe("prompt", Where.COMPLETIONS, prompt="What is")
def _(api: Api) -> None:
    ids = api.tokens("What is")
    one = texts(api.complete(max_tokens=4))
    assert texts(api.complete(prompt=ids, max_tokens=4)) == one
    assert texts(api.complete(prompt=["What is", "Hello"], max_tokens=4, n=2))[:2] == 2 * one
    several = api.complete(prompt=[ids, ids], max_tokens=4)
    assert texts(several) == 2 * one and [choice["index"] for choice in several["choices"]] == [0, 1]
    assert several["usage"]["prompt_tokens"] == 2 * len(ids)
    assert api.refused(TEXT, {"prompt": [5, 10**9]})["param"] == "prompt"
    assert api.refused(TEXT, {"prompt": []})["param"] == "prompt"


@probe("prompt", Where.TOKENIZE, prompt="What is")
def _(api: Api) -> None:
    assert api.send(TOKENIZE, {"prompt": QUESTION}).body["tokens"] == api.tokens(QUESTION)
    assert api.refused(TOKENIZE, {})["param"] == "prompt"


@probe("return_token_strs", Where.TOKENIZE, prompt="What is", return_token_strs=True)
def _(api: Api) -> None:
    assert "".join(api.send(TOKENIZE, {"prompt": QUESTION, "return_token_strs": True}).body["token_strs"]) == QUESTION


@probe("tokens", Where.DETOKENIZE, tokens=[300])
def _(api: Api) -> None:
    assert api.send("/detokenize", {"tokens": api.tokens(QUESTION)}).body["prompt"] == QUESTION
    assert api.refused("/detokenize", {"tokens": [10**9]})["param"] == "tokens"
    assert api.refused("/detokenize", {"tokens": [5] * 5000})["code"] == "context_length_exceeded"


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TIME: dict[str, Any] = {
    "type": "function",
    "function": {"name": "time", "parameters": {"type": "object", "properties": {}}},
}
TOOLS: dict[str, Any] = {"tools": [TOOL, TIME], "max_tokens": 200}
NAMED = {"type": "function", "function": {"name": "weather"}}


def calls(body: Any) -> list[tuple[str, Any]]:
    message = body["choices"][0]["message"]
    return [
        (call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls") or []
    ]


@probe("tools", Where.CHAT, tools=[TOOL])
def _(api: Api) -> None:
    told = api.chat(tools=[TOOL], max_tokens=1)["usage"]["prompt_tokens"]
    assert told > api.chat(max_tokens=1)["usage"]["prompt_tokens"]
    doubled = {"messages": MESSAGES, "tools": [TOOL, TOOL]}
    assert api.refused(CHAT, doubled)["param"] == "tools"
    held = {"messages": MESSAGES, "tools": [TOOL], "response_format": {"type": "json_object"}}
    assert api.refused(CHAT, held)["param"] == "response_format"


@probe("tools", Where.TOKENIZE, messages=MESSAGES, tools=[TOOL])
def _(api: Api) -> None:
    count = api.send(TOKENIZE, {"messages": MESSAGES, "tools": [TOOL]}).body["count"]
    assert count == api.chat(tools=[TOOL], max_tokens=1)["usage"]["prompt_tokens"]


@probe("tool_choice", Where.CHAT, tools=[TOOL], tool_choice="required")
def _(api: Api) -> None:
    assert calls(api.chat(**TOOLS, tool_choice="required"))
    ((name, arguments),) = calls(api.chat(**TOOLS, tool_choice=NAMED, parallel_tool_calls=False))
    assert name == "weather" and arguments["city"] in ("Rome", "Oslo")
    assert api.say(**TOOLS, tool_choice="none") == ANSWER
    assert api.refused(CHAT, {"messages": MESSAGES, "tool_choice": "required"})["param"] == "tool_choice"


@probe("parallel_tool_calls", Where.CHAT, tools=[TOOL], parallel_tool_calls=False)
def _(api: Api) -> None:
    assert len(calls(api.chat(**TOOLS, tool_choice="required", parallel_tool_calls=False))) == 1


@probe("documents", Where.CHAT, documents=[{"title": "t", "text": "x"}])
def _(api: Api) -> None:
    """The demo model's template takes none."""
    body = {"messages": MESSAGES, "documents": [{"title": "t", "text": "x"}]}
    assert api.refused(CHAT, body)["param"] == "documents"


@probe("chat_template_kwargs", Where.CHAT, Where.TOKENIZE, messages=MESSAGES, chat_template_kwargs={"mood": "good"})
def _(api: Api) -> None:
    """The demo model's template reads no variable of its own; what it is called with otherwise can't be replaced."""
    kwargs = {"messages": MESSAGES, "chat_template_kwargs": {"mood": "good"}}
    assert api.say(chat_template_kwargs={"mood": "good"}) == ANSWER
    assert api.send(TOKENIZE, kwargs).status == 200
    for path in (CHAT, TOKENIZE):
        reserved = api.refused(path, {"messages": MESSAGES, "chat_template_kwargs": {"messages": []}})
        assert reserved["param"] == "chat_template_kwargs.messages"


@probe("add_generation_prompt", Where.CHAT, Where.TOKENIZE, messages=MESSAGES, add_generation_prompt=False)
def _(api: Api) -> None:
    usual = api.chat()["usage"]["prompt_tokens"]
    fewer = api.chat(add_generation_prompt=False, max_tokens=1)["usage"]["prompt_tokens"]
    assert fewer < usual
    assert api.send(TOKENIZE, {"messages": MESSAGES, "add_generation_prompt": False}).body["count"] == fewer


@probe(
    "continue_final_message",
    Where.CHAT,
    Where.TOKENIZE,
    messages=[*MESSAGES, {"role": "assistant", "content": "The"}],
    continue_final_message=True,
)
def _(api: Api) -> None:
    begun = [*MESSAGES, {"role": "assistant", "content": "The capital of Finland is"}]
    body = api.chat(messages=begun, continue_final_message=True)
    assert body["choices"][0]["message"]["content"] == " Helsinki."
    count = api.send(TOKENIZE, {"messages": begun, "continue_final_message": True}).body["count"]
    assert count == body["usage"]["prompt_tokens"]
    both = {"messages": begun, "continue_final_message": True, "add_generation_prompt": True}
    assert api.refused(CHAT, both)["param"] == "continue_final_message"


def _no_thinking(**fields: Any) -> Check:
    """The demo model does not think: it answers as ever."""

    def check(api: Api) -> None:
        assert api.say(**fields) == text_of(api.chunks(**fields)) == ANSWER

    return check


for _switch, _position in (
    ("enable_thinking", False),
    ("thinking", True),
    ("reasoning_effort", "low"),
    ("verbosity", "low"),
    ("reasoning_format", "hidden"),
    ("include_reasoning", False),
):
    probe(_switch, Where.CHAT, **{_switch: _position})(_no_thinking(**{_switch: _position}))
probe("thinking.type", Where.CHAT, thinking={"type": "disabled"})(_no_thinking(thinking={"type": "disabled"}))


NO_OPS: dict[str, dict[str, Any]] = {
    "stream_options.include_obfuscation": {"stream": True, "stream_options": {"include_obfuscation": False}},
    "modalities": {"modalities": ["text"]},
    "user": {"user": "somebody"},
    "metadata": {"metadata": {"a": "b"}},
    "store": {"store": True},
    "service_tier": {"service_tier": "auto"},
    "safety_identifier": {"safety_identifier": "x"},
    "prompt_cache_key": {"prompt_cache_key": "x"},
    "prompt_cache_retention": {"prompt_cache_retention": "24h"},
    "prompt_cache_options": {"prompt_cache_options": {}},
}

WRONG: tuple[tuple[str, dict[str, Any], str], ...] = (
    (CHAT, {"temperature": 3}, "temperature"),
    (CHAT, {"temperature": True}, "temperature"),
    (CHAT, {"temperature": "hot"}, "temperature"),
    (CHAT, {"top_p": 1.5}, "top_p"),
    (CHAT, {"top_p": "0.5"}, "top_p"),
    (CHAT, {"top_k": -2}, "top_k"),
    (CHAT, {"min_p": 2}, "min_p"),
    (CHAT, {"n": 0}, "n"),
    (CHAT, {"n": 129}, "n"),
    (CHAT, {"n": True}, "n"),
    (CHAT, {"seed": "1"}, "seed"),
    (CHAT, {"seed": 2**63}, "seed"),
    (CHAT, {"presence_penalty": 3}, "presence_penalty"),
    (CHAT, {"frequency_penalty": -3}, "frequency_penalty"),
    (CHAT, {"repetition_penalty": 0}, "repetition_penalty"),
    (CHAT, {"logit_bias": {"5": 101}}, "logit_bias.5"),
    (CHAT, {"logit_bias": {"999999": 1}}, "logit_bias"),
    (CHAT, {"stop": [""]}, "stop.0"),
    (CHAT, {"stop": [str(n) for n in range(17)]}, "stop"),
    (CHAT, {"stop_token_ids": [True]}, "stop_token_ids.0"),
    (CHAT, {"stop_token_ids": [999999]}, "stop_token_ids"),
    (CHAT, {"ignore_eos": 1}, "ignore_eos"),
    (CHAT, {"return_token_ids": 1}, "return_token_ids"),
    (CHAT, {"min_tokens": 5, "max_tokens": 3}, "min_tokens"),
    (CHAT, {"max_tokens": 0}, "max_tokens"),
    (CHAT, {"max_tokens": "5"}, "max_tokens"),
    (CHAT, {"max_tokens": 1.5}, "max_tokens"),
    (CHAT, {"max_completion_tokens": False}, "max_completion_tokens"),
    (CHAT, {"stream": "true"}, "stream"),
    (CHAT, {"stream_options": {"include_costs": True}}, "stream_options.include_costs"),
    (CHAT, {"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    (CHAT, {"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    (CHAT, {"response_format": {"type": "xml"}}, "response_format.type"),
    (CHAT, {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (CHAT, {"structured_outputs": {"json": 5}}, "structured_outputs.json"),
    (CHAT, {"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
    (CHAT, {"guided_grammar": "nonsense ::="}, "guided_grammar"),
    (CHAT, {"guided_json": "{"}, "guided_json"),
    (CHAT, {"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice"),
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
    (CHAT, {"messages": [{"role": "user", "content": ["a"]}]}, "messages.0.content.0"),
    (CHAT, {"logprobs": 1}, "logprobs"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    (CHAT, {"tools": [{"type": "function"}]}, "tools.0.function"),
    (CHAT, {"tools": [TOOL], "tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
    (CHAT, {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
    (CHAT, {"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    (CHAT, {"verbosity": "loud"}, "verbosity"),
    (CHAT, {"reasoning_effort": "some"}, "reasoning_effort"),
    (CHAT, {"reasoning_format": "xml"}, "reasoning_format"),
    (CHAT, {"thinking": {"type": "maybe"}}, "thinking.type"),
    (CHAT, {"modalities": ["text", "audio"]}, "modalities.1"),
    (TEXT, {"prompt": None}, "prompt"),
    (TEXT, {"logprobs": 21}, "logprobs"),
    (TEXT, {"logprobs": True}, "logprobs"),
    (TEXT, {"max_tokens": 0}, "max_tokens"),
    (TEXT, {"echo": 1}, "echo"),
    (TEXT, {"temperature": -1}, "temperature"),
    (TEXT, {"stop": [""]}, "stop.0"),
    (TEXT, {"suffix": "x"}, "suffix"),
    (TEXT, {"messages": []}, "messages"),
    (CHAT, {"prompt": "x"}, "prompt"),
    (CHAT, {"echo": True}, "echo"),
    (CHAT, {"shoe_size": 44}, "shoe_size"),
    (TOKENIZE, {"prompt": "x", "shoe_size": 44}, "shoe_size"),
)
"""Endpoint, what is wrong, and the field that the refusal names."""
