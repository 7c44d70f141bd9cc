"""Asking a service behind an OpenAI base URL, and its answer piece by piece. Standard library only."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from llmservice_runtime.contract.errors import UserError


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of an answer; or, at its end, how many tokens it took."""

    text: str = ""
    thinking: str = ""
    usage: dict[str, Any] | None = None


class Chat:
    """Services by their names; `url` ends with /v1."""

    def __init__(self, url: str) -> None:
        self._url: SplitResult = urlsplit(url)

    def ask(self, body: dict[str, Any]) -> Iterator[Piece]:
        """Pieces of the answer as they come. UserError when it fails, also in the middle."""
        connection = http.client.HTTPConnection(self._url.netloc)
        try:
            yield from _pieces(self._sent(connection, "/chat/completions", body))
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"the connection to {self._url.netloc} broke: {error}.", "`llmservice ps` says why."
            ) from None
        finally:
            connection.close()  # the service stops generating when it sees this

    def wake(self, model: str) -> None:
        """Have a model loaded that left memory. What goes wrong is told when it is asked."""
        connection = http.client.HTTPConnection(self._url.netloc)
        try:
            self._sent(connection, "/tokenize", {"model": model, "prompt": "-"}).read()
        except (OSError, http.client.HTTPException, UserError):
            return
        finally:
            connection.close()

    def _sent(
        self, connection: http.client.HTTPConnection, route: str, body: dict[str, Any]
    ) -> http.client.HTTPResponse:
        connection.request("POST", self._url.path + route, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise UserError(_message(answer.read()))
        return answer


def _pieces(answer: http.client.HTTPResponse) -> Iterator[Piece]:
    """What a stream of chunks says."""
    for line in answer:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        chunk: dict[str, Any] = json.loads(data)
        if "error" in chunk:
            raise UserError(_message(data))
        if usage := chunk.get("usage"):
            yield Piece(usage=usage)
        for choice in chunk["choices"]:
            text, thinking = choice["delta"].get("content"), choice["delta"].get("reasoning_content")
            if text or thinking:
                yield Piece(text or "", thinking or "")
    raise UserError("the answer broke off.", "Ask again; `llmservice ps` shows whether the service still runs.")


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:300].decode(errors="replace")
