"""`llmservice stop`: models leave memory; their services stay, and come back with the next request."""

from __future__ import annotations

import argparse
import time

from llmservice_cli.completers import completes, services
from llmservice_cli.local.client import Control
from llmservice_cli.output import unfailing
from llmservice_cli.places import Places

LOOK_SECONDS = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    completes(parser.add_argument("names", nargs="+", metavar="NAME", help="services"), services)


def run(args: argparse.Namespace) -> int:
    """0 once all are on their way out; one that answers is waited for. UserError for one that is to stay."""
    control = Control(Places.from_environment().state)
    with unfailing():
        for name in args.names:
            _stop(control, name)
    return 0


def _stop(control: Control, name: str) -> None:
    said = False
    while True:
        full, result = control.rest(name)
        if result != "busy":
            print(f"{full}: {'it had left memory already' if result == 'idle' else 'leaves memory'}")
            return
        if not said:
            print(f"{full}: waits for its answers to end (`llmservice down {full}` ends all)", flush=True)
        said = True
        time.sleep(LOOK_SECONDS)
