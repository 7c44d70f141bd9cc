"""A request that our contract accepted, as vLLM takes it.

vLLM ignores fields that it does not know. So requests are read by the same models as under our own engines, which
refuse by name what they don't know, and what goes on to vLLM is written anew from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_runtime.engines.vllm.serve.reading import READING, Reading
from llmservice_runtime.engines.vllm.serve.served import Body, Served
from llmservice_runtime.openai.chat_prompt import (
    chosen_tools,
    held_to,
    learned,
    rendered,
    tells_ids,
    thinks_by,
    wanted_tokens,
)
from llmservice_runtime.openai.messages import normalise
from llmservice_runtime.openai.params import WHITE_SPACE, answer_length, bounded, constraint, sampling
from llmservice_runtime.openai.pictures.given import data_url
from llmservice_runtime.openai.pictures.headers import most_tokens
from llmservice_runtime.openai.pictures.marks import split
from llmservice_runtime.openai.pictures.prompt import kept_small
from llmservice_runtime.openai.prompt_options import prompt_options
from llmservice_runtime.openai.reasoning_probe import may_think
from llmservice_runtime.openai.requests.chat import ChatRequest, Message, Tool
from llmservice_runtime.openai.requests.completion import CompletionRequest, DetokenizeRequest, TokenizeRequest
from llmservice_runtime.openai.requests.fields import SharedFields, Strict
from llmservice_runtime.openai.state import Server
from llmservice_runtime.openai.templates import TemplateText, text_in
from llmservice_runtime.protocol.engine import Grammar, GrammarKind
from llmservice_runtime.wire.errors import bad_request, unsupported

SAME = (
    "stream", "n", "temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "logit_bias", "stop", "stop_token_ids", "include_stop_str_in_output", "ignore_eos",
    "min_tokens", "skip_special_tokens", "return_token_ids", "logprobs", "add_special_tokens",
)  # fmt: skip
"""Fields that mean the same there."""
CHAT_SAME = ("top_logprobs", "parallel_tool_calls", "documents", "add_generation_prompt", "include_reasoning")
TEMPLATE_BYTES = 1024
"""What a chat template may add, in bytes, for a bound that holds without rendering it: a token is a byte at least."""
ANY_LENGTH = 2**31 - 1
SPACE = {"whitespace_flexible": False, "item_separator": f",{WHITE_SPACE}", "key_separator": f":{WHITE_SPACE}"}
"""White space in JSON, bounded, as the llguidance takes it that vLLM is locked with: it does not look at a pattern."""
TOGETHER = ("none", "raw")
"""`reasoning_format` that leaves thinking inside of the content."""


async def chat(request: ChatRequest, served: Served) -> Body:
    """The body of vLLM's /v1/chat/completions; ApiError 400 for what can be judged before it."""
    tells_ids(request)
    tools, calls = chosen_tools(request)
    template = served.server.chat_template(bool(tools))
    length = wanted_tokens(request)
    body = _shared(request, served, ANY_LENGTH if length is None else length)
    body |= _given(request, CHAT_SAME)
    if request.top_logprobs and not request.logprobs:
        raise bad_request("`top_logprobs` needs `logprobs: true`.", "top_logprobs")
    if length is not None:
        body["max_completion_tokens"] = length
    texts = _messages(request.messages, template, served.server)
    body["messages"] = await _with_pictures(texts, request, served.server)
    written = len(json.dumps(texts, ensure_ascii=False).encode()) + TEMPLATE_BYTES
    if length is not None and not request.pictures and length + written > served.server.context_tokens:
        prompt = await rendered(served.server, request.messages, request, tools)
        _fits(served, prompt, request.add_special_tokens, length, "messages")
    options = prompt_options(template, request, tools)
    if request.continue_final_message:
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    if kwargs := _for_template(options["kwargs"], tools):
        body["chat_template_kwargs"] = kwargs
    if request.reasoning_format == "hidden":
        body["include_reasoning"] = False
    await _seen_fit(request, served, body, written)
    if not served.own:
        return body | _by_vllm(request, served, tools)
    fmt = await learned(template, served.tokenizer) if tools else None
    marks, thinking = None, False
    if may_think(template.source):
        prompt = await rendered(served.server, request.messages, request, tools)
        marks, thinking = await thinks_by(template, served.tokenizer, request, prompt)
    if held := held_to(request, tools, fmt, calls, marks, thinking):
        body["structured_outputs"] = structured(held[1])
    if fmt is not None:
        # Which calls may come is in the grammar; vLLM is to read them, and to show the special tokens in them.
        body |= {"tools": _described(tools), "tool_choice": "auto"}
    if (fmt is not None and fmt.special) or (marks is not None and marks.special):
        body["skip_special_tokens"] = False
    READING.set(Reading(None if request.reasoning_format in TOGETHER else marks, thinking, fmt, tools))
    return body


def _by_vllm(request: ChatRequest, served: Served, tools: list[Tool]) -> Body:
    """For the parsers of vLLM's that the user named."""
    if served.thinks and request.reasoning_format in TOGETHER:
        reason = "--reasoning-parser tells thinking apart for all requests; leave this out."
        raise unsupported("reasoning_format", reason)
    held = constraint(request)
    if not tools:
        return {"structured_outputs": structured(held[1])} if held else {}
    if held:
        reason = "an answer that may call `tools` can't be held to a format too; send one of them."
        raise unsupported(held[0], reason)
    if not served.calls:
        raise unsupported("tools", "engine.args name no --tool-call-parser beside --reasoning-parser.")
    choice = request.tool_choice
    return {
        "tools": _described(tools),
        "tool_choice": choice or "auto" if choice is None or isinstance(choice, str) else choice.model_dump(),
    }


async def _with_pictures(messages: list[Body], request: Strict, server: Server) -> list[Body]:
    """With every picture where its mark is. ApiError 400 for a broken one: vLLM unpacks none that was not unpacked in
    a process that may be lost, and none that is larger than what comes from there, with which it goes on."""
    if not request.pictures:
        return messages
    request.put_pictures([await kept_small(given) for given in request.pictures])
    parts = [{"type": "image_url", "image_url": {"url": data_url(given.data)}} for given in request.pictures]
    return [message | {"content": _parts(message["content"], parts, server.mark)} for message in messages]


def _parts(content: Any, pictures: Sequence[Body], mark: str) -> Any:
    """A content in parts, where it has pictures."""
    if content is None or mark not in text_in(content):
        return content
    texts, numbers = split(text_in(content), mark)
    found: list[Body] = []
    for text, number in zip(texts, [*numbers, None], strict=True):
        found += [{"type": "text", "text": text}] if text else []
        found += [pictures[number]] if number is not None else []
    return found


def _messages(messages: Sequence[Message], template: TemplateText, server: Server) -> list[Body]:
    """As templates want them, but for the arguments of calls, which vLLM takes as text and reads itself."""
    found = normalise(messages, template, server.mark if server.sees else "")
    for call in (call for message in found for call in message.get("tool_calls") or ()):
        said = call["function"]["arguments"]
        call["function"] = call["function"] | {"arguments": json.dumps(said, ensure_ascii=False)}
    return found


def _for_template(kwargs: Mapping[str, Any], tools: Sequence[Tool]) -> Body:
    """Tools as the client wrote them: vLLM adds fields that are null, which templates write into the prompt."""
    return {**kwargs, **({"tools": _described(tools)} if tools else {})}


def _described(tools: Sequence[Tool]) -> list[Body]:
    return [tool.model_dump(exclude_unset=True) for tool in tools]


async def completion(request: CompletionRequest, served: Served) -> Body:
    """The body of vLLM's /v1/completions."""
    if request.best_of is not None and request.best_of != request.n:
        reason = f"it must equal `n` ({request.n}); every answer that is generated is returned."
        raise unsupported("best_of", reason)
    if isinstance(request.prompt, list) and (not request.prompt or [] in request.prompt):
        raise bad_request("`prompt` has no tokens.", "prompt")
    if request.max_tokens == 0 and not request.echo:
        raise bad_request("`max_tokens` is 0: nothing to generate; use at least 1, or `echo`.", "max_tokens")
    if request.max_tokens == 0 and request.stream:
        raise bad_request("`max_tokens` is 0: nothing to stream; use at least 1.", "max_tokens")
    length = ANY_LENGTH if request.max_tokens is None else max(1, request.max_tokens)
    body = _shared(request, served, length) | _given(request, ("prompt", "echo"))
    _all_fit(request, served, request.max_tokens)
    if held := constraint(request):
        body["structured_outputs"] = structured(held[1])
    # Left out, vLLM takes 16; null is what the context leaves.
    body["max_tokens"] = request.max_tokens
    return body


def answers_of(request: SharedFields) -> int:
    """How many a request gets: `n` to each of its prompts."""
    return request.n * (len(_prompts(request)) if isinstance(request, CompletionRequest) else 1)


def _prompts(request: CompletionRequest) -> list[Any]:
    given = request.prompt
    return [given] if isinstance(given, str) or not given or isinstance(given[0], int) else list(given)


def _all_fit(request: CompletionRequest, served: Served, length: int | None) -> None:
    for prompt in _prompts(request):
        ids = () if isinstance(prompt, str) else prompt
        if wrong := next((token for token in ids if token >= served.tokenizer.vocab_size), None):
            size = served.tokenizer.vocab_size
            raise bad_request(f"`prompt` has token id {wrong}; this model's ids are 0 to {size - 1}.", "prompt")
        if length is None:
            continue
        size = len(prompt.encode() if isinstance(prompt, str) else prompt)
        if length + size > served.server.context_tokens:
            _fits(served, prompt, request.add_special_tokens, length, "prompt")


def _fits(served: Served, prompt: str | list[int], special: bool, length: int, field: str) -> None:
    """ApiError 400 where prompt and answer together are more than the context; vLLM would cut the answer."""
    tokens = prompt
    if isinstance(prompt, str):
        tokens = served.tokenizer.encode(prompt, add_special=special, parse_special=True)
    answer_length(len(tokens), max(1, length), served.server.context_tokens, field)


async def _seen_fit(request: ChatRequest, served: Served, body: Body, written: int) -> None:
    """The same of a chat with pictures, which vLLM alone can count: laid out once more, when it may be too long."""
    length = wanted_tokens(request)
    if not request.pictures or length is None or served.count is None:
        return
    most = written + sum(most_tokens(given.data) for given in request.pictures)
    if length + most > served.server.context_tokens:
        answer_length(await served.count(body), max(1, length), served.server.context_tokens, "messages")


async def tokenize(request: TokenizeRequest, served: Served) -> Body:
    """The body of vLLM's /tokenize."""
    served.server.check_model(request.model)
    if (request.prompt is None) == (request.messages is None):
        raise bad_request("Send either `prompt` or `messages`.", "prompt")
    body = request.model_dump(exclude={"model", "messages"}, exclude_unset=True, exclude_none=True)
    if request.messages is not None:
        template = served.server.chat_template(bool(request.tools))
        texts = _messages(request.messages, template, served.server)
        body["messages"] = await _with_pictures(texts, request, served.server)
        fields = {"messages", "tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message"}
        chat = ChatRequest.model_validate(request.model_dump(include=fields, exclude_unset=True))
        options = prompt_options(template, chat, request.tools or ())
        if kwargs := _for_template(options["kwargs"], request.tools or ()):
            body["chat_template_kwargs"] = kwargs
        body["add_generation_prompt"] = request.add_generation_prompt and not request.continue_final_message
    return body


async def detokenize(request: DetokenizeRequest, served: Served) -> Body:
    """The body of vLLM's /detokenize."""
    served.server.check_model(request.model)
    size = served.tokenizer.vocab_size
    wrong = next((token for token in request.tokens if not 0 <= token < size), None)
    if wrong is not None:
        raise bad_request(f"`tokens` has id {wrong}; this model's ids are 0 to {size - 1}.", "tokens")
    return {"tokens": request.tokens}


def _shared(request: SharedFields, served: Served, length: int) -> Body:
    logprobs = request.logprobs if isinstance(request, CompletionRequest) else None
    size = served.tokenizer.vocab_size
    sampling(request, max_tokens=length, logprobs=logprobs, grammar=None, vocab_size=size)
    if (answers := answers_of(request)) > served.max_answers:
        at_once = f"{answers} answers are asked for at once; this replica runs and queues at most"
        raise bad_request(f"{at_once} {served.max_answers}. Send fewer prompts or a smaller `n`.", "n")
    body = _given(request, SAME)
    if request.n > 1 and request.temperature == 0:
        # vLLM samples several answers only: from the likeliest token alone, each is the greedy one.
        body |= {"temperature": 1.0, "top_k": 1, "top_p": 1.0, "min_p": 0.0}
    name = served.server.check_model(request.model)
    body["model"] = served.adapters[adapter] if (adapter := served.server.adapter(name)) else name
    if request.stream and request.stream_options is not None:
        # vLLM gives the usage in every chunk only where it gives it at the end too.
        asked = request.stream_options
        usage = asked.include_usage or asked.continuous_usage_stats
        body["stream_options"] = {
            "include_usage": usage, "continuous_usage_stats": asked.continuous_usage_stats
        }  # fmt: skip
    return body


def no_usage(request: SharedFields) -> bool:
    """Whether the usage at the end is one that nobody asked for."""
    asked = request.stream_options
    return bool(asked and asked.continuous_usage_stats and not asked.include_usage)


def structured(grammar: Grammar) -> Body:
    """A constraint in the one field of vLLM's that takes all of them."""
    match grammar.kind:
        case GrammarKind.JSON_OBJECT:
            return {"json": {"type": "object", "x-guidance": SPACE}}
        case GrammarKind.JSON_SCHEMA:
            schema = json.loads(grammar.source)
            ours = schema["x-guidance"] == bounded({})["x-guidance"]  # else it is the client who said so
            return {"json": schema | {"x-guidance": SPACE} if ours else schema}
        case GrammarKind.REGEX:
            return {"regex": grammar.source}
        case _:
            return {"grammar": grammar.source}


def _given(request: SharedFields, names: tuple[str, ...]) -> Body:
    return request.model_dump(include=set(names) & request.model_fields_set, exclude_none=True)
