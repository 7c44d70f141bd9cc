"""How a model marks its thinking: the markup around it and before an answer without it, as values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmservice_runtime.openai.tool_formats import TAG
from llmservice_runtime.protocol.engine import Tokenizer


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """`open`, thinking and `close` (or not), then `plain` and content. White space around markup belongs to it."""

    open: str
    close: str
    plain: str = ""
    """Before content, not before tool calls; empty where nothing is. With it thinking comes in any number of blocks."""
    special: tuple[tuple[str, int], ...] = ()
    """Parts of the markup that are special tokens, and their ids: shown only when they are kept."""

    @property
    def first(self) -> str:
        """What every end of thinking begins with: its first tag."""
        tag = TAG.match(self.close)
        return tag[0] if tag else self.close

    def opened_by(self, prompt: str) -> bool:
        """Whether thinking is what comes next after this prompt."""
        return prompt.rstrip().endswith(self.open)


THINK = ReasoningFormat("<think>", "</think>")
"""What most models write."""
KNOWN = (THINK, ReasoningFormat("<|channel>thought", "<channel|>"), ReasoningFormat("[THINK]", "[/THINK]"))
"""For templates that leave the thinking of earlier answers out: nothing can be learned from those. Their ends stand in
`contract.template_text` as well."""


def known_format(source: str) -> ReasoningFormat | None:
    """The one whose end stands in the text of this template."""
    return next((known for known in KNOWN if known.close in source), None)


def with_tokens(fmt: ReasoningFormat, tokenizer: Tokenizer) -> ReasoningFormat:
    """The format with its special tokens known."""
    special: list[tuple[str, int]] = []
    for tag in dict.fromkeys(TAG.findall("\0".join((fmt.open, fmt.close, fmt.plain)))):
        tokens = tokenizer.encode(tag, add_special=False, parse_special=True)
        if len(tokens) == 1 and not tokenizer.decode(tokens, skip_special=True):
            special.append((tag, tokens[0]))
    return replace(fmt, special=tuple(special))
