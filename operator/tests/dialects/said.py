"""What engines say, as chunks of chat: each story is one stream."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def chunk(delta: Json | None = None, finish: str | None = None, usage: tuple[int, int] = (9, 1), **more: Any) -> Json:
    prompt, answer = usage
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish, **more}
    counts = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    details = {"prompt_tokens_details": {"cached_tokens": 4}}
    return {"object": "chat.completion.chunk", "model": "apps/demo", "choices": [choice], "usage": counts | details}


def call(index: int, arguments: str, **begun: str) -> Json:
    named = {"name": begun["name"]} if begun else {}
    head = {"id": begun["id"], "type": "function"} if begun else {}
    return {"tool_calls": [{"index": index, **head, "function": {**named, "arguments": arguments}}]}


BEGUN = chunk({"role": "assistant", "content": ""}, usage=(9, 0))
LAST = {"model": "apps/demo", "choices": [], "usage": chunk(usage=(9, 7))["usage"]}

STORIES: dict[str, list[Json]] = {
    "text": [BEGUN, chunk({"content": "Hello "}), chunk({"content": "wörld"}), chunk(finish="stop"), LAST],
    "nothing": [BEGUN, chunk(finish="stop"), LAST],
    "cut": [BEGUN, chunk({"content": "Hello"}), chunk(finish="length"), LAST],
    "stopped": [BEGUN, chunk({"content": "Hello "}), chunk(finish="stop", stop_reason="END"), LAST],
    "thinking": [
        BEGUN,
        chunk({"reasoning": "Hm", "reasoning_content": "Hm"}),
        chunk({"reasoning_content": "m."}),
        chunk({"content": "Yes."}),
        chunk(finish="stop"),
        LAST,
    ],
    "calls in turns": [
        BEGUN,
        chunk({"content": "I look."}),
        chunk(call(0, "", id="call_a", name="weather")),
        chunk(call(1, '{"ci', id="call_b", name="weather")),
        chunk(call(0, '{"city": ')),
        chunk(call(1, 'ty": "Oslo"')),
        chunk(call(0, '"Rome"}')),
        chunk(call(1, "}")),
        chunk(finish="tool_calls"),
        LAST,
    ],
    "a call cut off": [
        BEGUN,
        chunk(call(0, '{"city": "Ro', id="call_a", name="weather")),
        chunk(finish="length"),
        LAST,
    ],
    "half a pair": [BEGUN, chunk({"content": "\ud83d"}), chunk({"content": "\ude00"}), chunk(finish="stop"), LAST],
}
