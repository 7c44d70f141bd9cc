"""The dialects, by their routes. One more is a module or two beside these, and a line here."""

from __future__ import annotations

import re
from dataclasses import replace

from llmservice_gateway.dialects import messages_request, responses_request
from llmservice_gateway.dialects.dialect import CHAT, TOKENIZE, Dialect
from llmservice_gateway.dialects.messages_answer import MessageTeller
from llmservice_gateway.dialects.messages_errors import error_of
from llmservice_gateway.dialects.responses_answer import ResponseTeller
from llmservice_runtime.wire.errors import error_body
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

MESSAGES = Dialect(
    name="messages",
    route="/messages",
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
    route="/messages/count_tokens",
    path=TOKENIZE,
    translate=messages_request.count,
    teller=None,
    counted=lambda tokens: {"input_tokens": tokens},
)
RESPONSES = Dialect(
    name="responses",
    route="/responses",
    path=CHAT,
    translate=responses_request.translate,
    teller=ResponseTeller,
    error=error_body,
    beat=KEEP_ALIVE,
    names=_RESPONSE_NAMES,
)

DIALECTS = (MESSAGES, COUNT_TOKENS, RESPONSES)
BY_NAME = {dialect.name: dialect for dialect in DIALECTS}
_BASE = re.compile(r"/[^/]+/[^/]+/v1(?=/)|/v1(?=/)|")


def dialect_of(path: str) -> Dialect | None:
    """Whose errors are read at a path of the gateway, also at one that nobody serves; None = chat's."""
    route = path[_BASE.match(path).end() :]  # type: ignore[union-attr]  # matches nothing at least
    return next((one for one in DIALECTS if route == one.route or route.startswith(f"{one.route}/")), None)
