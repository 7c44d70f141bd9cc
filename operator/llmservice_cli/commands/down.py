"""`llmservice down`: drain services, or everything."""

from __future__ import annotations

import argparse

from llmservice_cli.local.client import Control
from llmservice_cli.places import Places


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="services to stop (none = all, and the gateway)")
    parser.add_argument("--force", action="store_true", help="do not let running requests finish")


def run(args: argparse.Namespace) -> int:
    """0 when everything that was named has ended."""
    shown = 0
    for progress in Control(Places.from_environment().state).down(args.names, force=args.force):
        running = progress.get("running", 0)
        if running and running != shown:
            print(f"draining: {running} requests still run (`llmservice down --force` ends them)", flush=True)
        shown = running
    print(f"stopped {', '.join(args.names) if args.names else 'everything'}")
    return 0
