"""POST /tokenize and /detokenize, as vLLM shapes them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from llmservice_runtime.openai.chat_prompt import rendered
from llmservice_runtime.openai.encoding import encode
from llmservice_runtime.openai.pictures.prompt import laid_out
from llmservice_runtime.openai.requests.body import received
from llmservice_runtime.openai.requests.chat import ChatRequest
from llmservice_runtime.openai.requests.completion import DetokenizeRequest, TokenizeRequest
from llmservice_runtime.openai.state import SERVER
from llmservice_runtime.protocol.engine import Tokenizer
from llmservice_runtime.wire import sse
from llmservice_runtime.wire.errors import bad_request

PICTURE = -1
"""In place of the tokens of pictures, which are none of the vocabulary."""
SLICE = 16_384
"""Tokens of an answer that are written in one go; more are written off the event loop."""


async def tokenize(http: web.Request) -> web.Response:
    """Token ids of a prompt or of rendered messages."""
    server = http.app[SERVER]
    request = await received(http, TokenizeRequest, server.context_tokens, pictures=server.sees)
    server.check_model(request.model)
    tokenizer = server.ready().tokenizer
    if (request.prompt is None) == (request.messages is None):
        raise bad_request("Send either `prompt` or `messages`.", "prompt")
    if request.prompt is not None:
        text, special = request.prompt, True
    else:
        fields = {"messages", "tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message"}
        chat = ChatRequest.model_validate(request.model_dump(include=fields, exclude_unset=True))
        chat.put_apart(request.apart)
        text, special = await rendered(server, chat.messages, chat, chat.tools or ()), False
    if request.add_special_tokens is not None:
        special = request.add_special_tokens
    if request.pictures and server.engine is not None:
        async with server.looking.at(len(request.pictures), server.engine.max_answers):
            laid = await laid_out(server.engine, text, server.mark, request.pictures, special, None)
        tokens = [max(token, PICTURE) for token in laid.tokens]
    else:
        tokens = await encode(tokenizer, text, special)
    strs = request.return_token_strs
    if len(tokens) <= SLICE:
        text = _answer(tokenizer, tokens, strs, server.context_tokens)
    else:
        text = await asyncio.to_thread(_answer, tokenizer, tokens, strs, server.context_tokens)
    return web.Response(text=text, content_type="application/json")


def _answer(tokenizer: Tokenizer, tokens: list[int], strs: bool, context_tokens: int) -> str:
    texts = (tokenizer.token_bytes(token).decode("utf-8", "replace") if token >= 0 else "" for token in tokens)
    shown = _array(list(texts)) if strs else "null"
    head = f'"count":{len(tokens)},"max_model_len":{context_tokens}'
    return f'{{{head},"tokens":{_array(tokens)},"token_strs":{shown}}}'


def _array(values: Sequence[object]) -> str:
    """JSON of a list, a slice at a time: in one go a million tokens hold up every stream."""
    slices = (sse.dumps(values[start : start + SLICE])[1:-1] for start in range(0, len(values), SLICE))
    return f"[{','.join(slices)}]"


async def detokenize(http: web.Request) -> web.Response:
    """The text of token ids, special tokens included."""
    server = http.app[SERVER]
    request = await received(http, DetokenizeRequest, server.context_tokens)
    server.check_model(request.model)
    engine = server.ready()
    wrong = next((token for token in request.tokens if not 0 <= token < engine.vocab_size), None)
    if wrong is not None:
        raise bad_request(f"`tokens` has id {wrong}; this model's ids are 0 to {engine.vocab_size - 1}.", "tokens")
    text = await asyncio.to_thread(engine.tokenizer.decode, request.tokens, skip_special=False)
    return web.Response(text=sse.dumps({"prompt": text}), content_type="application/json")
