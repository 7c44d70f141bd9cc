"""The worker that renders chat templates: `python -m llmservice_runtime.openai.rendering`.

A template comes with the model, so it is code of a stranger: it runs in Jinja's sandbox, which stops what it sees (a
call, a product, an output without end), in a process that may be lost, which ends with what it does not see.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmservice_runtime.openai.worker import serve

MAX_RENDERED_CHARS = 16 << 20


class RefusedError(ValueError):
    """The template can't be compiled, refused the messages (`raise_exception`) or went beyond its bounds."""


class Renderer:
    """Answers two questions: `{source}` makes a template the one that `{variables, seconds}` are rendered with."""

    def __init__(self) -> None:
        self._environment = _Environment()
        self._template: jinja2.Template | None = None

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """`{variables}` that the template reads, or its `{text}`; `{error}` when it can't be."""
        try:
            if "source" in question:
                return {"variables": self._compile(question["source"])}
            return {"text": self._render(question["variables"], question["seconds"])}
        except RefusedError as error:
            return {"error": str(error)}

    def _compile(self, source: str) -> list[str]:
        try:
            self._template = self._environment.from_string(source)
            return sorted(find_undeclared_variables(self._environment.parse(source)))
        except (jinja2.TemplateError, RecursionError, MemoryError, ValueError, OverflowError) as error:
            raise RefusedError(f"the chat template does not compile: {error}") from error

    def _render(self, variables: Mapping[str, Any], seconds: float) -> str:
        assert self._template is not None
        self._environment.deadline = time.monotonic() + seconds
        self._environment.seconds = seconds
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(variables):
                parts.append(part)
                size += len(part)
                if size > MAX_RENDERED_CHARS:
                    raise RefusedError(f"the chat template wrote more than {MAX_RENDERED_CHARS} characters")
        except RefusedError:
            raise
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
            raise RefusedError(f"the chat template refused these messages: {error}") from error
        except (RecursionError, MemoryError, OverflowError) as error:
            raise RefusedError("the chat template went beyond its bounds") from error
        return "".join(parts)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox with transformers' filters and globals, and a deadline that every call and product checks."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.deadline = 0.0
        self.seconds = 0.0
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return super().call(*args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self._check()
        if operator == "*" and _repeats(left, right) > MAX_RENDERED_CHARS:
            raise RefusedError("the chat template builds an endless text")
        if operator == "**" and (abs(left) > 1 << 32 or abs(right) > 64):
            raise RefusedError("the chat template computes an endless number")
        return super().call_binop(context, operator, left, right)

    def _check(self) -> None:
        if time.monotonic() > self.deadline:
            raise RefusedError(f"the chat template ran for more than {self.seconds:g} s")


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


if __name__ == "__main__":
    serve(Renderer().answer)
