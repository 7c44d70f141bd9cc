"""The dialects, by their routes. One more is a module or two beside these, and a line here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from llmservice_gateway.dialects import (
    messages_request,
    ollama_answer,
    ollama_request,
    responses_request,
    tgi_answer,
    tgi_request,
    xinference,
)
from llmservice_gateway.dialects.dialect import CHAT, COMPLETIONS, EMBEDDINGS, ONE, RERANK, TOKENIZE, Answering, Dialect
from llmservice_gateway.dialects.messages_answer import MessageTeller
from llmservice_gateway.dialects.messages_errors import error_of
from llmservice_gateway.dialects.ollama_answer import ChatTeller, GenerateTeller
from llmservice_gateway.dialects.pieces import Json
from llmservice_gateway.dialects.responses_answer import ResponseTeller
from llmservice_gateway.dialects.tgi_answer import GenerationTeller
from llmservice_gateway.naming import Asked
from llmservice_runtime.wire.errors import ApiError, error_body
from llmservice_runtime.wire.sse import KEEP_ALIVE

_MESSAGE_NAMES = {
    r"tools\.(\d+)\.function\.parameters": r"tools.\1.input_schema",
    r"tools\.(\d+)\.function\.": r"tools.\1.",
    r"parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    r"reasoning_effort": "output_config.effort",
    r"response_format(\.json_schema)?": "output_config.format",
    r"stop\b": "stop_sequences",
}
_RESPONSE_NAMES = {
    r"tools\.(\d+)\.function\.": r"tools.\1.",
    r"max_(completion_)?tokens": "max_output_tokens",
    r"messages\b[.\w]*": "input",
    r"reasoning_effort": "reasoning.effort",
    r"response_format(\.json_schema)?": "text.format",
    r"verbosity": "text.verbosity",
}
_OLLAMA_NAMES = {
    r"messages\.(\d+)\.content\.\d+[.\w]*": r"messages.\1.images",
    r"(temperature|top_k|top_p|min_p|seed|stop|presence_penalty|frequency_penalty)\b": r"options.\1",
    r"repetition_penalty": "options.repeat_penalty",
    r"max_(completion_)?tokens": "options.num_predict",
    r"(reasoning_effort|thinking\b[.\w]*)": "think",
    r"response_format[.\w]*": "format",
    r"truncate_prompt_tokens": "truncate",
}
_TGI_NAMES = {
    r"prompt\b": "inputs",
    r"max_tokens": "parameters.max_new_tokens",
    r"structured_outputs[.\w]*": "parameters.grammar.value",
    r"(temperature|top_k|top_p|seed|stop|repetition_penalty|frequency_penalty)\b": r"parameters.\1",
}


NO_NAMESPACE = "v1|api|chat|messages|responses"
"""First words of other routes with two: POST /NAMESPACE/NAME is none of a namespace with such a name."""


def _counted(_: Answering, said: Json) -> Json:
    if not isinstance(count := said["count"], int):
        raise ValueError
    return {"input_tokens": count}


MESSAGES = Dialect(
    name="messages",
    routes=("/messages",),
    path=CHAT,
    translate=messages_request.translate,
    teller=MessageTeller,
    error=error_of,
    beat=b'event: ping\ndata: {"type":"ping"}\n\n',
    names=_MESSAGE_NAMES,
    id_header="request-id",
)
COUNT_TOKENS = replace(
    MESSAGES,
    name="count_tokens",
    routes=("/messages/count_tokens",),
    path=TOKENIZE,
    translate=messages_request.count,
    teller=None,
    remade=_counted,
)
RESPONSES = Dialect(
    name="responses",
    routes=("/responses",),
    path=CHAT,
    translate=responses_request.translate,
    teller=ResponseTeller,
    error=error_body,
    beat=KEEP_ALIVE,
    names=_RESPONSE_NAMES,
)
OLLAMA_CHAT = Dialect(
    name="ollama chat",
    routes=("/api/chat",),
    bases=("", ONE),
    path=CHAT,
    translate=ollama_request.chat,
    teller=ChatTeller,
    remade=partial(ollama_answer.loaded, ChatTeller),
    error=ollama_answer.error_of,
    beat=ollama_answer.BEAT,
    heads=ollama_answer.LINES,
    names=_OLLAMA_NAMES,
)
OLLAMA_GENERATE = replace(
    OLLAMA_CHAT,
    name="ollama generate",
    routes=("/api/generate",),
    translate=ollama_request.generate,
    teller=GenerateTeller,
    remade=partial(ollama_answer.loaded, GenerateTeller),
    names={r"messages\.\d+\.content\.\d+[.\w]*": "images", r"messages\b[.\w]*": "prompt", **_OLLAMA_NAMES},
)
OLLAMA_EMBED = replace(
    OLLAMA_CHAT,
    name="ollama embed",
    routes=("/api/embed",),
    path=EMBEDDINGS,
    translate=ollama_request.embed,
    teller=None,
    remade=ollama_answer.embedded,
)
OLLAMA_EMBEDDINGS = replace(
    OLLAMA_EMBED,
    name="ollama embeddings",
    routes=("/api/embeddings",),
    translate=ollama_request.embeddings,
    remade=ollama_answer.embedded_one,
    names={r"input\b[.\w]*": "prompt"},
)
OLLAMA_RERANK = replace(
    OLLAMA_EMBED,
    name="ollama rerank",
    routes=("/api/rerank",),
    path=RERANK,
    translate=ollama_request.rerank,
    remade=ollama_answer.reranked,
)
TGI_GENERATE = Dialect(
    name="tgi generate",
    routes=("/generate",),
    bases=(ONE,),
    path=COMPLETIONS,
    translate=tgi_request.generate,
    teller=GenerationTeller,
    error=tgi_answer.error_of,
    beat=KEEP_ALIVE,
    names=_TGI_NAMES,
)
TGI_STREAM = replace(
    TGI_GENERATE, name="tgi stream", routes=("/generate_stream",), translate=tgi_request.generate_stream
)
TGI_ROOT = replace(
    TGI_GENERATE,
    name="tgi",
    routes=("", "/"),
    bases=(f"/{{namespace:(?!(?:{NO_NAMESPACE})/)[^/]+}}/{{name}}",),
    translate=tgi_request.either,
)

XINFERENCE_CHAT = Dialect(
    name="xinference chat",
    routes=(),
    path=CHAT,
    translate=xinference.chat,
    teller=xinference.ChatTeller,
    error=error_body,
    beat=KEEP_ALIVE,
)
XINFERENCE_RERANK = replace(
    XINFERENCE_CHAT, name="xinference rerank", path=RERANK, translate=xinference.rerank, teller=None,
    remade=xinference.same,
)  # fmt: skip

DIALECTS = (
    MESSAGES, COUNT_TOKENS, RESPONSES,
    OLLAMA_CHAT, OLLAMA_GENERATE, OLLAMA_EMBED, OLLAMA_EMBEDDINGS, OLLAMA_RERANK,
    TGI_GENERATE, TGI_STREAM, TGI_ROOT,
)  # fmt: skip
BY_NAME = {dialect.name: dialect for dialect in (*DIALECTS, XINFERENCE_CHAT, XINFERENCE_RERANK)}


def spoken(route: str, by_uid: bool, asked: Asked, data: bytes) -> Dialect | None:
    """What Xinference's clients expect of a route that OpenAI has too. `by_uid`: the model is named as there."""
    if route == "/rerank" and b'"kwargs"' in data:
        return XINFERENCE_RERANK
    if route == "/chat/completions" and by_uid and asked.streams and asked.sequences == 1 and b'"tools"' in data:
        return XINFERENCE_CHAT
    return None


@dataclass(frozen=True, slots=True)
class Manners:
    """How a protocol tells errors, and which header has a request's id."""

    error: Callable[[ApiError], Json]
    id_header: str = "X-Request-Id"


_ONE = r"/[^/]+/[^/]+"
_BASE = re.compile(rf"{_ONE}/v1(?=/)|/v1(?=/)|")
_BELOW_BASE = (
    (re.compile(r"/messages(/.*)?"), Manners(error_of, MESSAGES.id_header)),
    (re.compile(r"/responses(/.*)?"), Manners(error_body)),
    (re.compile(r"/(models|engines|cluster)(/.*)?"), Manners(xinference.error_of)),
)
_ELSEWHERE = (
    (re.compile(rf"({_ONE})?/api/[^/]+(/[^/]+)?"), Manners(ollama_answer.error_of)),
    (re.compile(rf"{_ONE}/(generate|generate_stream|info|health)"), Manners(tgi_answer.error_of)),
)
_TGI_ROOT = re.compile(rf"(?!/(?:{NO_NAMESPACE})/){_ONE}/?")


def manners_at(method: str, path: str) -> Manners | None:
    """Whose errors are read at a path of the gateway, also at one that nobody serves; None = chat's."""
    route = path[_BASE.match(path).end() :]  # type: ignore[union-attr]  # matches nothing at least
    for patterns, where in ((_BELOW_BASE, route), (_ELSEWHERE, path)):
        for pattern, manners in patterns:
            if pattern.fullmatch(where):
                return manners
    return Manners(tgi_answer.error_of) if method == "POST" and _TGI_ROOT.fullmatch(path) else None
