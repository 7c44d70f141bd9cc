"""A tokenizer of Hugging Face's, as far as templates and their formats are learned with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmservice_runtime.engines.base.chat_templates import chat_templates


class HfTokenizer:
    """`Tokenizer` of the engine protocol over one that vLLM has loaded."""

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.bos_token = str(getattr(tokenizer, "bos_token", None) or "")
        self.eos_token = str(getattr(tokenizer, "eos_token", None) or "")
        ends = getattr(tokenizer, "eos_token_id", None)
        self.end_tokens = frozenset([ends] if isinstance(ends, int) else ends or ())
        self.chat_template, self.tool_template = chat_templates(getattr(tokenizer, "chat_template", None))

    def at_least(self, text: str) -> int:
        """Nothing is known."""
        return 0

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids; what looks like a special token is one, as everywhere in vLLM."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special))

    def pair(self, one: str, two: str) -> list[int]:
        """Token ids of two texts that belong together, with the special tokens that say so."""
        return list(self._tokenizer(one, two)["input_ids"])

    def parts(self, text: str, *, add_special: bool, parse_special: bool) -> Iterator[list[int]]:
        """All in one piece."""
        yield self.encode(text, add_special=add_special, parse_special=parse_special)

    def decode(self, tokens: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=skip_special))

    def token_bytes(self, token: int) -> bytes:
        """Of one token, as far as it is text by itself."""
        return self.decode([token], skip_special=False).encode()
