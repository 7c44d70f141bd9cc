"""`llmservice chat`: talk to a service in the terminal; answers stream, Ctrl-C stops one, /bye leaves."""

from __future__ import annotations

import argparse
import signal

from llmservice_cli.chat.start import add_asking, session_of
from llmservice_cli.chat.talk import ended, talk
from llmservice_cli.commands.ps import find, full_name
from llmservice_cli.completers import completes, services
from llmservice_cli.local.client import Control
from llmservice_cli.places import Places


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    completes(parser.add_argument("name", help="service: NAME or NAMESPACE/NAME"), services)
    parser.add_argument("--prompt", metavar="TEXT", help="ask this one thing, print the answer, end")
    add_asking(parser)


def run(args: argparse.Namespace) -> int:
    """0; UserError when the (one-shot) question got no whole answer."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it stops an answer
    places = Places.from_environment()
    session = session_of(args)
    session.model = full_name(find(Control(places.state).snapshot(), args.name))
    return ended(talk(places, session, args.prompt, lambda word: _load(places, word)))


def _load(places: Places, word: str) -> str:
    from llmservice_cli.wanted.serving import load

    return load(places, word)
