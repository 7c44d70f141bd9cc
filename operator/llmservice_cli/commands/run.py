"""`llmservice run`: from a model's name to a conversation with it."""

from __future__ import annotations

import argparse
import re
import signal
from typing import TYPE_CHECKING

from llmservice_cli.chat.start import add_asking, session_of
from llmservice_cli.chat.talk import ended, talk
from llmservice_cli.commands.ps import find, full_name, goes
from llmservice_cli.completers import completes, models
from llmservice_cli.local.client import Control
from llmservice_cli.ollama.links import newer
from llmservice_cli.options import port_number
from llmservice_cli.places import Places
from llmservice_cli.told import tell
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.ports import GATEWAY_PORT

if TYPE_CHECKING:
    from llmservice_cli.wanted.serving import Serving

_TIME = re.compile(r"(\d{1,7})(s|m|h|d)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, None: 1}
MOST_IDLE = 604_800
FOREVER = -1


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    completes(
        parser.add_argument(
            "model",
            metavar="MODEL",
            help="OWNER/NAME[:QUANTIZATION] of the Hugging Face hub, a model of Ollama's on this machine, a URI, a "
            "path, or a service",
        ),
        models,
    )
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="ask this one thing, print the answer, end")
    add_asking(parser)
    parser.add_argument("--name", metavar="NAME", help="of the service (default: made of the model's)")
    parser.add_argument(
        "--keepalive",
        type=_keepalive,
        metavar="TIME",
        help="how long the model stays in memory without a request (30m; default 5m; -1 = always)",
    )
    parser.add_argument("--context", type=int, metavar="TOKENS", help="prompt and answer together (default: planned)")
    parser.add_argument("--engine", choices=[engine.value for engine in EngineType], help="default: planned")
    parser.add_argument(
        "--port",
        type=port_number,
        metavar="N",
        help=f"of the gateway, where none runs yet (default {GATEWAY_PORT}; 0 = any)",
    )
    parser.add_argument("--yes", action="store_true", help="install an engine that is needed without asking")


def run(args: argparse.Namespace) -> int:
    """0; 1 when it could not be served, or the one question got no whole answer."""
    try:
        code = _run(args)
    except UserError as error:
        tell(error)
        code = 1
    return ended(code)


def _run(args: argparse.Namespace) -> int:
    places = Places.from_environment()
    session = session_of(args)
    name = _running(args, places) or _served(args, places)
    if not name:
        return 1
    signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on it stops an answer
    session.model = name
    return talk(places, session, " ".join(args.prompt) or None, lambda word: _load(places, word))


def _running(args: argparse.Namespace, places: Places) -> str:
    """Full name of the service that is meant, where one has that name. One that is being prepared, could not be,
    or is being stopped, is prepared here too."""
    if _options_given(args):
        return ""
    try:
        entry = find(Control(places.state).snapshot(), args.model)
    except UserError:
        return ""
    if entry["engine"] is None or goes(entry):
        return ""
    return _serving(args, places).renewed(entry) if newer(entry, places.cache) else full_name(entry)


def _options_given(args: argparse.Namespace) -> bool:
    return any(value is not None for value in (args.name, args.keepalive, args.context, args.engine))


def _served(args: argparse.Namespace, places: Places) -> str:
    from llmservice_cli.wanted.service import IDLE_SECONDS, Options

    serving = _serving(args, places)
    if not _options_given(args):
        return serving.serve(args.model)
    idle = IDLE_SECONDS if args.keepalive is None else args.keepalive
    options = Options(args.name or "", None if idle == FOREVER else idle, args.context, args.engine or "")
    return serving.serve(args.model, options)


def _serving(args: argparse.Namespace, places: Places) -> Serving:
    from llmservice_cli.local.offer import Offer
    from llmservice_cli.wanted.serving import Serving, say

    return Serving(places, say, GATEWAY_PORT if args.port is None else args.port, Offer(args.yes))


def _load(places: Places, word: str) -> str:
    from llmservice_cli.wanted.serving import load

    return load(places, word)


def _keepalive(text: str) -> int:
    """Seconds, or FOREVER."""
    if text.startswith("-"):
        return FOREVER
    match = _TIME.fullmatch(text)
    if match and 1 <= (seconds := int(match[1]) * _SECONDS[match[2]]) <= MOST_IDLE:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no time from 1s to 7d (5m, 1h), and not -1 for always")
