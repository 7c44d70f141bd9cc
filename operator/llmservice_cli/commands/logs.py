"""`llmservice logs`: what the replicas of a service wrote, also after they have ended."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from llmservice_cli.completers import completes, services
from llmservice_cli.places import Places
from llmservice_runtime.contract.errors import UserError

FOLLOW_SECONDS = 0.2
TAIL_BYTES = 1_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    completes(parser.add_argument("name", help="service: NAME or NAMESPACE/NAME"), services)
    parser.add_argument("--replica", type=int, metavar="N", help="only this replica, counted from 0")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on")
    parser.add_argument("--tail", type=int, default=200, metavar="N", help="last lines to begin with (default 200)")


def run(args: argparse.Namespace) -> int:
    """0; UserError when there is no such log."""
    files = _files(Places.from_environment().state / "logs", args.name, args.replica)
    positions: dict[Path, int] = {}
    for file in files:
        positions[file] = _print_tail(file, args.tail, _prefix(file, files))
    while args.follow:
        time.sleep(FOLLOW_SECONDS)
        for file in files:
            positions[file] = _print_new(file, positions[file], _prefix(file, files))
    return 0


def _files(logs: Path, name: str, replica: int | None) -> list[Path]:
    folders = [folder for folder in sorted(logs.glob("*/*")) if name in (folder.name, _full(folder))]
    if not folders:
        known = ", ".join(_full(folder) for folder in sorted(logs.glob("*/*"))) or "none"
        raise UserError(
            f"there is no log of a service `{name}`.",
            f"Services that have logs: {known}. `llmservice ps` says why a service has not started.",
        )
    if len(folders) > 1:
        raise UserError(
            f"`{name}` means several services: {', '.join(map(_full, folders))}.", "Use one of these names."
        )
    files = sorted(folders[0].glob("*.log"), key=lambda file: int(file.stem))
    chosen = [file for file in files if replica is None or file.stem == str(replica)]
    if not chosen:
        raise UserError(
            f"{_full(folders[0])} has no replica {replica}.", f"Its replicas: {', '.join(file.stem for file in files)}."
        )
    return chosen


def _full(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _prefix(file: Path, files: list[Path]) -> str:
    return f"[{file.stem}] " if len(files) > 1 else ""


def _print_tail(file: Path, count: int, prefix: str) -> int:
    """The last `count` lines, from the older part too when the newer one is short; where the file ends."""
    older = file.with_name(file.name + ".1")
    text = file.read_bytes()
    lines = ((older.read_bytes() if older.exists() else b"") + text)[-TAIL_BYTES:].decode(errors="replace").splitlines()
    _write(lines[-count:] if count > 0 else [], prefix)
    return len(text)


def _print_new(file: Path, position: int, prefix: str) -> int:
    """Whole lines beyond `position`; the new position (the start again when the file was rotated)."""
    size = file.stat().st_size
    with file.open("rb") as source:
        source.seek(position if size >= position else 0)
        start = source.tell()
        text = source.read(TAIL_BYTES)
    end = text.rfind(b"\n") + 1
    _write(text[:end].decode(errors="replace").splitlines(), prefix)
    return start + end


def _write(lines: list[str], prefix: str) -> None:
    for line in lines:
        sys.stdout.write(f"{prefix}{line}\n")
    sys.stdout.flush()
