"""Token counts of one request, counted once however many answers it has."""

from __future__ import annotations

from dataclasses import dataclass

from llmservice_runtime.protocol.engine import Delta
from llmservice_runtime.wire.sse import dumps


@dataclass(slots=True)
class Usage:
    """OpenAI's `usage`."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0

    def add(self, delta: Delta) -> None:
        """Count what one delta brought. Answers of one prompt share its cached tokens: the largest counts."""
        self.completion_tokens += len(delta.token_ids)
        if delta.cached_tokens > self.cached_tokens:
            self.cached_tokens = min(delta.cached_tokens, self.prompt_tokens)

    def body(self) -> dict[str, object]:
        """The object as clients read it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def json(self) -> str:
        """`body` as JSON text."""
        return dumps(self.body())
