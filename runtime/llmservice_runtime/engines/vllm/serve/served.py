"""What this replica serves, as requests are judged by: names, template, sizes, and what vLLM was told to read apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from llmservice_runtime.contract.pictures import KEPT_PIXELS, TOGETHER
from llmservice_runtime.engines.vllm.serve.behind import Behind
from llmservice_runtime.openai.pictures.looking import Looking
from llmservice_runtime.openai.state import Server
from llmservice_runtime.protocol.engine import Tokenizer

Body = dict[str, Any]
"""Of a request to vLLM's own routes."""
PIXELS = TOGETHER * KEPT_PIXELS
"""Of the pictures that vLLM has together: it keeps each, as pixels and as what its encoder takes, until its request
ends."""
BATCH_PIXELS = PIXELS // 4
"""With batch work: what of it runs goes on to its end, and a live request with more than the rest waits for that."""
Count = Callable[[Body], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Served:
    """`server` has names, task and template."""

    server: Server
    tokenizer: Tokenizer
    max_answers: int
    """That run and wait together."""
    own: bool = True
    """Thinking and tool calls are read by our reader; else by the parsers of vLLM's that the user named."""
    thinks: bool = False
    """Answers may have thinking that is told apart."""
    calls: bool = True
    behind: Behind | None = None
    """Looks after batch work; None = the model writes no text."""
    looking: Looking = field(default_factory=lambda: Looking(PIXELS, BATCH_PIXELS))
    """Has requests wait whose pictures would be too many pixels."""
    adapters: dict[str, str] = field(default_factory=dict)
    """What vLLM calls the LoRA adapters that it has."""
    count: Count | None = None
    """Tokens of a chat's prompt as vLLM lays it out, pictures included; 0 = it can't."""
