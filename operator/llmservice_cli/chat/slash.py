"""Commands within a conversation, as Ollama's people know them: /set, /show, /load, /clear, /bye."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from llmservice_cli.chat.session import EFFORTS, Session

HELP = """Commands:
  /set            how answers are made (/? set)
  /system TEXT    set the system message
  /show           what is set, and what the model is (/? show)
  /load MODEL     go on with another model, which is served if it is not yet
  /list           services here
  /clear          forget the conversation so far
  /bye            leave; the model stays as long as it is kept in memory
  /?, /help       this

Begin a message of several lines with \"\"\", and end it so. Ctrl-C stops an answer, Ctrl-D leaves."""
HELP_SET = """Commands:
  /set system TEXT              system message
  /set parameter NAME VALUE     temperature, top_p, top_k, min_p, seed, num_predict, stop, repeat_penalty,
                                presence_penalty, frequency_penalty
  /set format json, noformat    answers are JSON, or not
  /set think [low|medium|high|max], nothink
  /set verbose, quiet           say how long answers took, or not
  /set history, nohistory       keep what is typed, or not"""
HELP_SHOW = """Commands:
  /show info          the model and the service
  /show system        the system message
  /show parameters    what was set"""
NOTHING = '""'
"""A system message that is none."""
ELSEWHERE: Mapping[str, str] = {
    "/save": "what a conversation says beforehand is the client's; a service's settings are its manifest.",
    "/set wordwrap": "the terminal breaks lines.",
    "/set nowordwrap": "the terminal breaks lines.",
    "/show license": "it is on the model's page.",
    "/show modelfile": "there are none; `llmservice ps -o yaml` prints the manifest.",
    "/show template": "it is the one in the model's files, and stays with the engine.",
}


@dataclass(frozen=True, slots=True)
class World:
    """What commands reach beyond the session. `load` gives the name of a service (empty: it failed, and was told);
    UserErrors are told."""

    load: Callable[[str], str]
    brought: Callable[[Session], Iterable[str]]
    info: Callable[[str], str]
    services: Callable[[], str]
    keep_history: Callable[[bool], None]


def slash(session: Session, line: str, world: World) -> str | None:
    """Carry out a command; what is said, None = leave. UserError when it can't be done."""
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    if command in ("/bye", "/exit", "/quit"):
        return None
    if command in ("/?", "/help"):
        return {"set": HELP_SET, "show": HELP_SHOW}.get(rest.removeprefix("/"), HELP)
    if command == "/clear":
        session.clear()
        return "Cleared the conversation."
    if command == "/system":
        return _system(session, rest)
    if command == "/set":
        return _set(session, rest, world)
    if command == "/show":
        return _show(session, rest, world)
    if command == "/load":
        return _load(session, rest, world)
    if command == "/list":
        return world.services()
    return _unknown(command)


def _unknown(command: str) -> str:
    if why := ELSEWHERE.get(command):
        return f"{command} is not here: {why}"
    return f"Unknown command {command!r}. /? lists them."


def _system(session: Session, text: str) -> str:
    if not text:
        return session.system or "There is no system message. /system TEXT sets one."
    session.system = "" if text == NOTHING else text
    return "Set the system message." if session.system else "There is no system message now."


def _set(session: Session, rest: str, world: World) -> str:
    what, _, value = rest.partition(" ")
    value = value.strip()
    match what:
        case "":
            return HELP_SET
        case "system":
            return _system(session, value)
        case "parameter":
            if len(words := value.split()) < 2:
                return HELP_SET
            session.set(words[0], words[1:])
            return f"Set {words[0]} to {', '.join(words[1:])}."
        case "format" if value == "json":
            session.as_json = True
            return "Answers are JSON."
        case "noformat":
            session.as_json = False
            return "Answers are as they come."
        case "think" if value in ("", *EFFORTS):
            session.think = value or True
            return "The model thinks first."
        case "nothink":
            session.think = False
            return "The model does not think first."
        case "verbose" | "quiet":
            session.verbose = what == "verbose"
            return f"Answers are {'followed by' if session.verbose else 'without'} their figures."
        case "history" | "nohistory":
            world.keep_history(what == "history")
            return f"What is typed is {'kept' if what == 'history' else 'not kept'}."
    return _unknown(f"/set {rest}")


def _show(session: Session, what: str, world: World) -> str:
    match what:
        case "":
            return HELP_SHOW
        case "info":
            return world.info(session.model)
        case "system":
            return session.system or "There is no system message."
        case "parameters":
            return "\n".join(f"{name} {value}" for name, value in session.options.items()) or "Nothing is set."
    return _unknown(f"/show {what}")


def _load(session: Session, word: str, world: World) -> str:
    if not word:
        return "/load MODEL"
    if name := world.load(word):
        session.other_model(name)
        return "\n".join([*world.brought(session), f"Now talking to {name}."])
    return f"Still talking to {session.model}."
