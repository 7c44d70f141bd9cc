"""Messages of a conversation, as chat templates take them."""

from __future__ import annotations

from random import Random
from typing import Any

Message = dict[str, Any]


def user(content: str) -> Message:
    """What somebody asks."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """What is answered in words."""
    return {"role": "assistant", "content": content}


def loosely(rng: Random, question: str) -> str:
    """As people type: now and then without the last mark or the first capital."""
    if rng.random() < 0.15:
        question = question.rstrip("?.!")
    if rng.random() < 0.15:
        question = question[0].lower() + question[1:]
    return question
