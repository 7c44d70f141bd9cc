"""Options of the commands that open a conversation, and the session that they ask for."""

from __future__ import annotations

import argparse

from llmservice_cli.chat.session import EFFORTS, Session


def add_asking(parser: argparse.ArgumentParser) -> None:
    """How answers are made."""
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 = always the likeliest answer (default)")
    parser.add_argument("--format", choices=("json",), help="answers are JSON")
    parser.add_argument(
        "--think", nargs="?", const="true", choices=("true", "false", *EFFORTS),
        help="have the model think first, or not (default: as it is made)",
    )  # fmt: skip
    parser.add_argument("--verbose", action="store_true", help="say how long answers took")


def session_of(args: argparse.Namespace) -> Session:
    """A new session with what the command line says."""
    session = Session(system=args.system, as_json=args.format == "json", verbose=args.verbose)
    if args.temperature is not None:
        session.options["temperature"] = session.sampling["temperature"] = args.temperature
    if args.think is not None:
        session.think = {"true": True, "false": False}.get(args.think, args.think)
    return session
