"""What became of the lines: counted, and told at the end. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NUMBERS, CUT = 5, 160
"""Lines that a kind of failure names, and characters of what it said."""


@dataclass(slots=True)
class Kind:
    """Failures of one kind."""

    lines: list[int] = field(default_factory=list)
    message: str = ""


@dataclass(slots=True)
class Tally:
    """Of `lines`, those that are done."""

    lines: int
    answered: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    """As the answers of this run count them."""
    kinds: dict[str, Kind] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Answered or failed."""
        return self.answered + self.failed

    def add(self, number: int, result: Mapping[str, Any], *, now: bool = True) -> None:
        """One line of the output; `now`: of this run."""
        if not failed(result):
            self.answered += 1
            if now:
                self._used(result["response"].get("body"))
            return
        self.failed += 1
        kind, message = _why(result)
        found = self.kinds.setdefault(kind, Kind(message=message))
        found.lines.append(number)

    def _used(self, body: Any) -> None:
        usage = body.get("usage") if isinstance(body, dict) else None
        if isinstance(usage, dict):
            self.prompt_tokens += _count(usage, "prompt_tokens", "input_tokens")
            self.answer_tokens += _count(usage, "completion_tokens", "output_tokens")

    def told(self, seconds: float) -> str:
        """For people; `seconds` that this run took."""
        left = self.lines - self.done
        said = [f"{self.lines:,} lines: {self.answered:,} answered, {self.failed:,} failed"]
        said += [f"{left:,} left"] if left else []
        text = ", ".join(said) + "."
        if self.prompt_tokens or self.answer_tokens:
            text += f" {self.prompt_tokens:,} prompt and {self.answer_tokens:,} answer tokens in {time_of(seconds)}."
        for name, kind in sorted(self.kinds.items(), key=lambda pair: -len(pair[1].lines)):
            numbers = ", ".join(map(str, sorted(kind.lines)[:NUMBERS])) + (", ..." if len(kind.lines) > NUMBERS else "")
            text += f"\n  {len(kind.lines):,} x {name} (line{'s' if len(kind.lines) > 1 else ''} {numbers}): "
            text += kind.message if len(kind.message) <= CUT else kind.message[: CUT - 3] + "..."
        return text


def failed(result: Mapping[str, Any]) -> bool:
    """Whether a line of the output is no answer."""
    response = result.get("response")
    return not isinstance(response, dict) or response.get("status_code") != 200


def time_of(seconds: float) -> str:
    """For people."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _why(result: Mapping[str, Any]) -> tuple[str, str]:
    if isinstance(error := result.get("error"), dict):
        return str(error.get("code")), str(error.get("message"))
    response = result.get("response")
    response = response if isinstance(response, dict) else {}
    body = response.get("body")
    said = body.get("error", body) if isinstance(body, dict) else body
    said = said if isinstance(said, dict) else {"message": said}
    return f"{response.get('status_code')} {said.get('code') or ''}".strip(), str(said.get("message"))


def _count(usage: Mapping[str, Any], *names: str) -> int:
    return next((usage[name] for name in names if isinstance(usage.get(name), int)), 0)
