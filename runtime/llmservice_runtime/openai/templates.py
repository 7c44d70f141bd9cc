"""Chat templates, rendered as transformers renders them, in a worker that ends with what goes beyond its bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from llmservice_runtime.openai.worker import LostError, Worker

MAX_TEMPLATE_CHARS = 1 << 20
MAX_SECONDS = 5.0
THINKING = ("reasoning_content", "reasoning", "thinking")
"""What templates call a message's thinking."""
MARK = "CONTINUE_FINAL_MESSAGE_TAG "
"""Ends with white space, as in transformers: where that is gone, the template trims."""
MANY_CHARS = 64 << 10
MANY_MESSAGES = 256
"""From here on a prompt is rendered apart, so that short ones wait for short ones only."""

_workers = {many: Worker("llmservice_runtime.openai.rendering") for many in (False, True)}


def warm_up() -> None:
    """Start the worker that every chat needs while something else goes on: it takes a while to import Jinja."""
    _workers[False].start()


class TemplateError(ValueError):
    """The template can't be compiled, refused the messages (`raise_exception`) or went beyond its bounds."""


class ChatTemplate:
    """One compiled chat template. Raises TemplateError when it does not compile."""

    def __init__(self, source: str, bos_token: str = "", eos_token: str = "") -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise TemplateError(f"the chat template has {len(source)} characters, more than {MAX_TEMPLATE_CHARS}")
        self.source = source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._told = {"source": source}
        self.variables = frozenset(self._ask(self._told, many=False)["variables"])

    @property
    def takes_tools(self) -> bool:
        """Whether the template writes tool definitions into the prompt."""
        return "tools" in self.variables

    @cached_property
    def keeps_null_content(self) -> bool:
        """Whether the template asks if a message's content is none (else null content is the empty string)."""
        return re.search(r"content['\"]?\]?\s+is\s+(not\s+)?none", self.source) is not None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str:
        """The prompt text. With `continue_final_message` it ends where the last message's content ends.

        That is the content, or the thinking (`reasoning_content`, `reasoning`) of a message that has only that.
        """
        messages = [*messages[:-1], marked(messages[-1])] if continue_final_message else messages
        variables = dict(self._tokens) | dict(kwargs or {})
        variables |= {
            "messages": [dict(message) for message in messages],
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
        }
        text = self._run(variables)
        return cut_at_mark(text) if continue_final_message else text

    def _run(self, variables: Mapping[str, Any]) -> str:
        question = {"variables": variables, "seconds": MAX_SECONDS}
        return str(self._ask(question, many=many([m.get("content") for m in variables["messages"]]))["text"])

    def _ask(self, question: Mapping[str, Any], *, many: bool) -> dict[str, Any]:
        first = None if question is self._told else self._told
        try:
            # The template's own deadline comes first: it says more.
            answer: dict[str, Any] = _workers[many].ask(question, MAX_SECONDS + 0.2, first)
        except LostError as error:
            raise TemplateError(f"the chat template {error}") from error
        except (RecursionError, ValueError) as error:
            raise TemplateError(f"the chat template can't be given these messages: {error}") from error
        if "error" in answer:
            raise TemplateError(answer["error"])
        return answer


def many(contents: Sequence[Any]) -> bool:
    """Whether messages with these contents (texts, or lists of parts) are much to render."""
    if len(contents) > MANY_MESSAGES:
        return True
    parts = [part for content in contents for part in (content if isinstance(content, list) else [content])]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return sum(len(text) for text in texts if isinstance(text, str)) > MANY_CHARS


def marked(message: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' continue_final_message: a mark at the end of what is continued, for the template to carry along."""
    fields = [name for name in THINKING if message.get(name)] if not message.get("content") else []
    return {**message, **{name: str(message.get(name) or "") + MARK for name in fields or ["content"]}}


def cut_at_mark(text: str) -> str:
    """What the template wrote before the mark; one that trims content trims it here too, as in transformers."""
    at = text.rfind(MARK.strip())
    if at < 0:
        raise TemplateError("continue_final_message needs a last message that the chat template writes to its end")
    return text[:at] if text.startswith(MARK, at) else text[:at].rstrip()
