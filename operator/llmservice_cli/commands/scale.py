"""`llmservice scale`: run more or fewer replicas of a service."""

from __future__ import annotations

import argparse

from llmservice_cli.completers import completes, services
from llmservice_cli.local.client import Control
from llmservice_cli.output import unfailing
from llmservice_cli.places import Places
from llmservice_runtime.contract.errors import UserError

MOST = 1000
"""As spec.replicas."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    completes(parser.add_argument("name", metavar="NAME", help="the service"), services)
    parser.add_argument("--replicas", type=int, required=True, metavar="N", help="how many; 0 stops it, and keeps it")


def run(args: argparse.Namespace) -> int:
    """0 once it was taken; replicas come and drain after that (`llmservice ps`)."""
    if not 0 <= args.replicas <= MOST:
        raise UserError(
            f"--replicas is {args.replicas}, not a number from 0 to {MOST}.", "Give a number in that range."
        )
    name, result = Control(Places.from_environment().state).scale(args.name, args.replicas)
    with unfailing():
        print(f"{name}: {result}")
    return 0
