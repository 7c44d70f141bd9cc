"""Answers as Ollama tells them: lines of JSON while they come, or one object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json

from llmservice_gateway.dialects.dialect import HOLE, Answering, around, quoted, text_of
from llmservice_gateway.dialects.parts import Kind, Part, PartEnded, PartEvent, PartGrew, Parts
from llmservice_gateway.dialects.pieces import Begun, Counted, Ended, Json, Piece
from llmservice_runtime.wire.errors import ApiError

LINES = {
    "Content-Type": "application/x-ndjson",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
NEXT = ',"done":false}\n'
BEAT = b" "
"""Before the next line: readers split at line ends and take a line's spaces as JSON does; an empty line breaks
Ollama's own client."""
_BREAK = re.compile("[\x85\u2028\u2029]")
"""What JSON may have in a text as it is, and httpx, in Ollama's own client, takes for the end of a line."""


def error_of(error: ApiError) -> Json:
    """The body of an error; its line in a stream."""
    return {"error": error.message}


class ChatTeller:
    """One message."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._parts = Parts()
        self._counted = Counted(0, 0)
        self._reason = "stop"
        self._calls = 0
        self._head = text_of(head(answering))[:-1] + ","
        before, after = around(text_of(self.said(HOLE, "", []))[1:-1])
        self._before, self._after = self._head + before, after + NEXT
        """Of a line that has text alone, as most have."""

    def tell(self, piece: Piece) -> str:
        """Lines that follow from a piece."""
        match piece:
            case Counted():
                self._counted = piece
            case Ended(reason):
                self._reason = "length" if reason == "length" else "stop"
                return self._lines(self._parts.end())
            case Begun():
                pass
            case _:
                return self._lines(self._parts.add(piece))
        return ""

    def end(self) -> str:
        """Why it ended, and what it took."""
        last = {**head(self._answering), **self.said("", "", []), **self._end()}
        return self._lines(self._parts.end()) + unbroken(text_of(last)) + "\n"

    def broken(self, error: ApiError) -> str:
        """An error instead of the end."""
        return unbroken(text_of(error_of(error))) + "\n"

    def whole(self, pieces: Iterable[Piece]) -> Json:
        """All of it."""
        told = list[PartEvent]()
        for piece in pieces:
            match piece:
                case Counted():
                    self._counted = piece
                case Ended(reason):
                    self._reason = "length" if reason == "length" else "stop"
                case Begun():
                    pass
                case _:
                    told += self._parts.add(piece)
        parts = [one.part for one in (*told, *self._parts.end()) if isinstance(one, PartEnded)]
        texts = {kind: "".join(part.text for part in parts if part.kind is kind) for kind in Kind}
        calls = [self._call(part) for part in parts if part.kind is Kind.CALL]
        probs = [probability for part in parts for probability in part.logprobs]
        said = self.said(texts[Kind.TEXT], texts[Kind.THINKING], calls)
        return {**head(self._answering), **said, **({"logprobs": probs} if probs else {}), **self._end()}

    def said(self, text: str, thinking: str, calls: list[Json]) -> Json:
        """The fields that the answer stands in."""
        message: Json = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        return {"message": message}

    def _lines(self, told: Iterable[PartEvent]) -> str:
        return unbroken("".join(map(self._line, told)))

    def _line(self, told: PartEvent) -> str:
        match told:
            case PartGrew(part, text, ()) if part.kind is Kind.TEXT:
                return f"{self._before}{quoted(text)}{self._after}"
            case PartGrew(part, text, logprobs) if part.kind is not Kind.CALL:
                thinks = part.kind is Kind.THINKING
                said = self.said("" if thinks else text, text if thinks else "", [])
                if logprobs:
                    said["logprobs"] = list(logprobs)
            case PartEnded(part) if part.kind is Kind.CALL:
                said = self.said("", "", [self._call(part)])
            case _:
                return ""
        return f"{self._head}{text_of(said)[1:-1]}{NEXT}"

    def _call(self, part: Part) -> Json:
        self._calls += 1
        function = {"index": self._calls - 1, "name": part.name, "arguments": _arguments(part.text)}
        return {"id": part.call_id, "function": function}

    def _end(self) -> Json:
        """Of an answer that is no stream nobody knows when it began: all of it is the answer's time."""
        spent, counted = self._answering, self._counted
        began = spent.began if spent.began < spent.ended else spent.waited
        return {
            "done": True,
            "done_reason": self._reason,
            **_durations(spent),
            "prompt_eval_count": counted.prompt,
            "prompt_eval_duration": _nanoseconds(began - spent.waited),
            "eval_count": counted.answer,
            "eval_duration": _nanoseconds(spent.ended - began),
        }


class GenerateTeller(ChatTeller):
    """The same as a text."""

    def said(self, text: str, thinking: str, calls: list[Json]) -> Json:
        """/api/generate has no tools."""
        return {"response": text, **({"thinking": thinking} if thinking else {})}


def loaded(teller: type[ChatTeller], answering: Answering, said: Json) -> Json:
    """What a request that only loads the model is told."""
    if not isinstance(said["count"], int):
        raise ValueError
    return {**head(answering), **teller(answering).said("", "", []), "done": True, "done_reason": "load"}


def embedded(answering: Answering, said: Json) -> Json:
    """The vectors of /api/embed."""
    counted = int(said["usage"]["prompt_tokens"])
    vectors = [one["embedding"] for one in said["data"]]
    return {"model": answering.echo.get("model", ""), "embeddings": vectors, **_durations(answering),
            "prompt_eval_count": counted}  # fmt: skip


def embedded_one(answering: Answering, said: Json) -> Json:
    """The vector of /api/embeddings."""
    return {"embedding": said["data"][0]["embedding"]}


def reranked(answering: Answering, said: Json) -> Json:
    """Scores; a document is the text itself."""
    rows = [{**row, "document": row["document"]["text"]} if "document" in row else row for row in said["results"]]
    return {"model": answering.echo.get("model", ""), "results": rows}


def head(answering: Answering) -> Json:
    """What every line begins with. The model as it was asked for."""
    came = datetime.fromtimestamp(answering.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"model": answering.echo.get("model", ""), "created_at": came}


def unbroken(lines: str) -> str:
    """Lines of JSON as readers split them."""
    return lines if lines.isascii() else _BREAK.sub(lambda found: f"\\u{ord(found[0]):04x}", lines)


def _durations(spent: Answering) -> Json:
    return {"total_duration": _nanoseconds(spent.ended), "load_duration": _nanoseconds(spent.waited)}


def _nanoseconds(seconds: float) -> int:
    return max(0, int(seconds * 1e9))


def _arguments(text: str) -> Any:
    """A call's arguments, an object; of those that were cut off as much as can be read."""
    try:
        found = json.loads(text or "{}")
    except RecursionError:
        return {}
    except ValueError:
        try:
            found = from_json(text, allow_partial=True)
        except ValueError:
            return {}
    return found if isinstance(found, dict) else {}
