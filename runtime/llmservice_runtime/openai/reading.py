"""The worker for large requests: `python -m llmservice_runtime.openai.reading`. It renders chat templates as well.

A body becomes a small request, checked as every other, and what is large in it as bytes. With these a prompt is
rendered later, when it is known that it is to be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from llmservice_runtime.openai.messages import normalise
from llmservice_runtime.openai.prompt_options import prompt_options
from llmservice_runtime.openai.rendering import Renderer
from llmservice_runtime.openai.requests.apart import taken_apart
from llmservice_runtime.openai.requests.body import MODELS, bound_values
from llmservice_runtime.openai.requests.chat import ChatRequest
from llmservice_runtime.openai.requests.parse import parse
from llmservice_runtime.openai.templates import TemplateError, TemplateText, text_of
from llmservice_runtime.openai.worker import serve_apart
from llmservice_runtime.wire.errors import ApiError

Answer = tuple[dict[str, Any], bytes]


class Reader:
    """Answers `{read, context_tokens, prompts, unsupported}` about a body, `{request, tokens}` about its large fields.

    And what `Renderer` answers.
    """

    def __init__(self) -> None:
        self._renderer = Renderer()
        self._source = ""

    def answer(self, question: Mapping[str, Any], data: bytes) -> Answer:
        """See `Reader`; `{refused}` are the fields of an ApiError, `{error}` is a template's."""
        if "read" in question:
            return _refusing(self._read, question, data)
        if "request" in question:
            return _refusing(self._render, question, data)
        self._source = question.get("source", self._source)
        return self._renderer.answer(question), b""

    def _read(self, question: Mapping[str, Any], body: bytes) -> Answer:
        context_tokens = question["context_tokens"]
        bound_values(body, context_tokens, question["prompts"])
        return taken_apart(
            parse(MODELS[question["read"]], body, context_tokens, question["unsupported"], question.get("pictures"))
        )

    def _render(self, question: Mapping[str, Any], data: bytes) -> Answer:
        request = ChatRequest.model_validate(question["request"] | json.loads(data))
        template = TemplateText(self._source, **question["tokens"])
        messages = normalise(request.messages, template, question.get("mark", ""))
        options = prompt_options(template, request, request.tools or ())
        answer = self._renderer.answer(template.question(messages, options))
        return {}, text_of(answer, messages, options).encode()


def _refusing(find: Callable[[Mapping[str, Any], bytes], Answer], question: Mapping[str, Any], data: bytes) -> Answer:
    try:
        return find(question, data)
    except ApiError as error:
        fields = {"status": error.status, "message": error.message, "code": error.code, "param": error.param}
        return {"refused": fields | {"kind": error.kind, "headers": error.headers}}, b""
    except TemplateError as error:
        return {"error": str(error)}, b""


if __name__ == "__main__":
    serve_apart(Reader().answer)
