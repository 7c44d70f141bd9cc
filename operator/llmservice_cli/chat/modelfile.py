"""What a model of Ollama's brings beside its weights, for the conversation that `run` opens: other clients say it
themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from llmservice_cli.chat.session import Message, Session
from llmservice_cli.ollama.links import of_folder
from llmservice_cli.ollama.store import OllamaModel
from llmservice_runtime.contract.errors import UserError

ROLES = ("system", "user", "assistant")
CONTEXT = "num_ctx"


def of_service(uri: str, cache: Path) -> OllamaModel | None:
    """The model of Ollama's that a service with this URI has; None where its model is another's."""
    return of_folder(Path(uri.removeprefix("file://")), cache) if uri.startswith("file://") else None


def take_over(session: Session, model: OllamaModel) -> Iterator[str]:
    """System message, parameters and first turns of its Modelfile; sentences on what is taken and what is not. What
    was said on the command line wins."""
    name = model.name.shown
    if (system := model.text("system").strip()) and session.system is None:
        session.system = system
        session.inherited.append("system")
        yield f"{name}: its system message holds in this conversation (/show system)."
    for key, value in _object(model.text("params")).items():
        if key in session.options:
            continue
        try:
            if key != CONTEXT:  # the plan's, which is as much as there is room for
                session.take({key: value})
                session.inherited.append(key)
        except UserError as error:
            yield f"{name}: its parameter {key} is not taken: {error.reason}"
    taken = [f"{key} {session.options[key]}" for key in session.inherited if key in session.options]
    if taken:
        yield f"{name}: answers are made with {', '.join(taken)} (/show parameters)."
    session.begin = _turns(model.text("messages"))


def _object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _turns(text: str) -> list[Message]:
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    return [
        {"role": turn["role"], "content": turn["content"]}
        for turn in (found if isinstance(found, list) else ())
        if isinstance(turn, dict) and turn.get("role") in ROLES and isinstance(turn.get("content"), str)
    ]
