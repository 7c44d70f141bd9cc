"""`llmservice install`: bring an engine to this machine, so that it can serve here."""

from __future__ import annotations

import argparse
import sys

from llmservice_cli.engine_builds import machine_here, unused_gpu
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.install.make import DEVICES, Install, install

ENGINES = {engine.folder: engine for engine in EngineType}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("engine", choices=sorted(ENGINES), help="engine to install")
    parser.add_argument(
        "--device",
        choices=DEVICES,
        help="what it is to run on (default: as it is installed here; else an NVIDIA GPU that is found, where that "
        "takes no build)",
    )
    parser.add_argument("--rebuild", action="store_true", help="install again, whatever is there")
    parser.add_argument("--portable", action="store_true", help="build with no CPU feature newer than AVX2 and FMA")


def run(args: argparse.Namespace) -> int:
    """0 = it is installed."""
    install(Install(ENGINES[args.engine], rebuild=args.rebuild, portable=args.portable, device=args.device or ""))
    if not args.device and (offer := unused_gpu(ENGINES[args.engine], machine_here())):
        print(offer, file=sys.stderr)
    return 0
