"""Chat templates, rendered as transformers renders them, within bounds of time and size.

A template comes with the model, so it is code of a stranger: it runs in Jinja's sandbox, and a loop, a product or an
output without end is stopped.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEMPLATE_CHARS = 1 << 20
MAX_RENDERED_CHARS = 16 << 20
MAX_SECONDS = 5.0
THINKING = ("reasoning_content", "reasoning", "thinking")
"""What templates call a message's thinking."""
MARK = "CONTINUE_FINAL_MESSAGE_TAG "
"""Ends with white space, as in transformers: where that is gone, the template trims."""


class TemplateError(ValueError):
    """The template can't be compiled, refused the messages (`raise_exception`) or went beyond its bounds."""


class ChatTemplate:
    """One compiled chat template. Raises TemplateError when it does not compile."""

    def __init__(self, source: str, bos_token: str = "", eos_token: str = "") -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise TemplateError(f"the chat template has {len(source)} characters, more than {MAX_TEMPLATE_CHARS}")
        self.source = source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        environment = _Environment()
        try:
            self._template = environment.from_string(source)
            self.variables = frozenset(find_undeclared_variables(environment.parse(source)))
        except (jinja2.TemplateError, RecursionError) as error:
            raise TemplateError(f"the chat template does not compile: {error}") from error

    @property
    def takes_tools(self) -> bool:
        """Whether the template writes tool definitions into the prompt."""
        return "tools" in self.variables

    @property
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
        environment = self._template.environment
        assert isinstance(environment, _Environment)
        environment.deadline = time.monotonic() + MAX_SECONDS
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(variables):
                parts.append(part)
                size += len(part)
                if size > MAX_RENDERED_CHARS:
                    raise TemplateError(f"the chat template wrote more than {MAX_RENDERED_CHARS} characters")
        except TemplateError:
            raise
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
            raise TemplateError(f"the chat template refused these messages: {error}") from error
        except (RecursionError, MemoryError, OverflowError) as error:
            raise TemplateError("the chat template went beyond its bounds") from error
        return "".join(parts)


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


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox with transformers' filters and globals, and a deadline that every call and product checks."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.deadline = 0.0
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return super().call(*args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self._check()
        if operator == "*" and _repeats(left, right) > MAX_RENDERED_CHARS:
            raise TemplateError("the chat template builds an endless text")
        if operator == "**" and (abs(left) > 1 << 32 or abs(right) > 64):
            raise TemplateError("the chat template computes an endless number")
        return super().call_binop(context, operator, left, right)

    def _check(self) -> None:
        if time.monotonic() > self.deadline:
            raise TemplateError(f"the chat template ran for more than {MAX_SECONDS:.0f} s")


class _Generation(Extension):
    """`{% generation %}` marks the assistant's part for training; rendering writes its body."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _repeats(left: Any, right: Any) -> int:
    """Length of `sequence * times` whichever way round; 0 for numbers."""
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, (str, bytes, list, tuple)) and isinstance(times, int):
            return len(sequence) * max(times, 0)
    return 0


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers: not Jinja's own, which escapes HTML characters."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
