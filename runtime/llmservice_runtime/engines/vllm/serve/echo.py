"""A completion that its prompt opens, where token ids are told too: vLLM leaves the prompt's text out then."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from llmservice_runtime.protocol.engine import Tokenizer
from llmservice_runtime.wire import sse


@dataclass(frozen=True, slots=True)
class Echoed:
    """Puts it where other engines have it, in an answer that is whole or in each event of one."""

    tokenizer: Tokenizer
    generates: bool = True
    """False: the prompt is all that was asked for, and vLLM generates a token that is not shown."""
    _texts: dict[tuple[int, ...], str] = field(default_factory=dict)
    """Of prompts that were decoded: all `n` choices have the same."""

    def whole(self, body: bytes) -> bytes:
        """A whole answer."""
        return self._with_prompts(body).encode()

    def event(self, event: bytes) -> bytes:
        """One event of a stream; `[DONE]` and comments stay."""
        data = event.removeprefix(b"data: ")
        return event if not data.startswith(b"{") else f"data: {self._with_prompts(data)}\n\n".encode()

    def _with_prompts(self, data: bytes) -> str:
        found = json.loads(data)
        for choice in found.get("choices", ()):
            self._put(choice)
        return sse.dumps(found)

    def _put(self, choice: dict[str, Any]) -> None:
        if prompt := choice.get("prompt_token_ids") or []:  # of a stream the first event has them
            choice["text"] = self._text(tuple(prompt)) + choice["text"]
        if not self.generates:
            choice["token_ids"] = []
        if told := choice.get("logprobs"):
            told["token_ids"] = [*prompt, *choice["token_ids"]]

    def _text(self, prompt: tuple[int, ...]) -> str:
        if prompt not in self._texts:
            self._texts[prompt] = self.tokenizer.decode(prompt)
        return self._texts[prompt]
