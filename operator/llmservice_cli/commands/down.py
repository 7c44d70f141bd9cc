"""`llmservice down`: drain services, or everything."""

from __future__ import annotations

import argparse
import time

from llmservice_cli.completers import completes, services
from llmservice_cli.local.client import Control, NoInstanceError
from llmservice_cli.local.lock import JOIN_SECONDS, InstanceLock
from llmservice_cli.output import unfailing
from llmservice_cli.places import Places


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    completes(
        parser.add_argument("names", nargs="*", metavar="NAME", help="services to stop (none = all, and the gateway)"),
        services,
    )
    parser.add_argument("--force", action="store_true", help="do not let running requests finish")


def run(args: argparse.Namespace) -> int:
    """0 when everything that was named has ended, or when nothing was named and nothing runs."""
    places = Places.from_environment()
    with unfailing():
        try:
            _wait_for_one_that_starts(places)
            _stop(Control(places.state), args.names, force=args.force)
        except NoInstanceError:
            if args.names:
                raise
            print("nothing runs here")
            return 0
        print(f"stopped {', '.join(args.names) if args.names else 'everything'}")
        return 0


def _stop(control: Control, names: list[str], *, force: bool) -> None:
    shown = 0
    for progress in control.down(names, force=force):
        running = progress.get("running", 0)
        if running and running != shown:
            print(f"draining: {running} requests still run (`llmservice down --force` ends them)", flush=True)
        shown = running


def _wait_for_one_that_starts(places: Places) -> None:
    """An instance takes its lock before it answers; NoInstanceError when there is none."""
    control, end = Control(places.state), time.monotonic() + JOIN_SECONDS
    while True:
        try:
            control.snapshot()
        except NoInstanceError:
            if not InstanceLock.held(places.state) or time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
