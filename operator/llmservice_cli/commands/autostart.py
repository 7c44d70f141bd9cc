"""`llmservice autostart`: have systemd serve whenever this user's session begins."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmservice_cli.autostart import systemd
from llmservice_cli.autostart.files import PRIVATE, READABLE, edited, write
from llmservice_cli.autostart.manifests import manifests
from llmservice_cli.autostart.unit import config_folder, left_out, unit, unit_path
from llmservice_cli.commands.ps import full_name, goes
from llmservice_cli.front_options import add_front, front_of, words_of
from llmservice_cli.local.client import Control, NoInstanceError
from llmservice_cli.local.front import Front
from llmservice_cli.places import Places
from llmservice_cli.plans import ALLOW_REMOTE_CODE, add_leave
from llmservice_runtime.contract.errors import UserError


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "-f", "--file", dest="files", type=Path, action="append", metavar="FILE",
        help="manifest or folder of manifests to serve (default: the services that run now)",
    )  # fmt: skip
    # Those of `up`: what is not said is as it is now.
    add_front(parser)
    add_leave(parser)
    parser.add_argument("--yes", action="store_true", help="install an engine that is needed without asking")
    parser.add_argument("--print", dest="only_print", action="store_true", help="print the unit, and change nothing")
    parser.add_argument("--off", action="store_true", help="start nothing any more")


def run(args: argparse.Namespace) -> int:
    """0; UserError where there is no systemd, or it refuses."""
    path = unit_path(os.environ)
    if args.off:
        return _off(path)
    if not args.only_print:
        systemd.check()
        _look_at_unit(path)
    now = _now()
    front = front_of(args, Front.of(now["front"]) if now and "front" in now else Front())
    files = [file.absolute() for file in args.files or ()] or _written(now, args.only_print, bool(front.launch))
    _look_at(files, written=not (args.only_print and not args.files), remote_code=args.allow_remote_code)
    port = int(now["url"].removesuffix("/v1").rpartition(":")[2]) if now and args.port is None else args.port
    leave = [ALLOW_REMOTE_CODE] * args.allow_remote_code + ["--yes"] * args.yes
    text = unit([*_command(files, port), *words_of(front), *leave], os.environ)
    if args.only_print:
        print(text, end="")
        return 0
    write(path, text, READABLE)
    start = now is None
    systemd.enable(start=start)
    if options := list(words_of(front)):
        print(f"Its options, as said here or as what runs was started: {' '.join(options)}")
    print(f"{path}: starts with your session{' and now' if start else '; now the services run that you started'}.")
    if names := left_out(os.environ):
        print(f"Not written into it, as others may read it: {', '.join(names)}. LLMSERVICE_SECRETS_DIR is for these.")
    if not systemd.lingers():
        print("`loginctl enable-linger` has it start with the machine, before you log in.")
    return 0


def _off(path: Path) -> int:
    if not path.exists():
        print("nothing starts by itself here")
        return 0
    systemd.check()
    systemd.disable()
    kept = path.with_name(f"{path.name}.edited") if edited(path) else None
    if kept is None:
        path.unlink()
    else:
        path.replace(kept)
    print(f"removed {path}{f'; what was edited is in {kept}' if kept else ''}")
    return 0


def _command(files: list[Path], port: int | None) -> list[str]:
    program = Path(sys.executable).with_name("llmservice")
    found = str(program) if program.exists() else shutil.which("llmservice")
    if found is None:
        raise UserError("the program `llmservice` is nowhere on this machine.", "Install it, or put it on the PATH.")
    words = [found, "up", *(word for file in files for word in ("-f", str(file)))]
    return words if port is None else [*words, "--port", str(port)]


def _now() -> dict[str, Any] | None:
    """What runs, and how its instance started; None = none runs."""
    with contextlib.suppress(NoInstanceError):
        return Control(Places.from_environment().state).snapshot()
    return None


def _written(now: dict[str, Any] | None, only_print: bool, launches: bool) -> list[Path]:
    """What runs now, written down where a person finds it. Where clients launch models, that may be nothing."""
    import yaml

    path = config_folder(os.environ) / "llmservice" / "services.yaml"
    services = [entry for entry in now["services"] if not goes(entry)] if now else []
    if not services and not path.exists():
        if launches:
            return []
        raise UserError("no service runs that could be started again.", "Start one, or name a manifest with -f FILE.")
    if services and not only_print:
        if edited(path):
            _say_kept(path, services)
        else:  # values of variables may be secrets
            write(path, yaml.safe_dump_all(manifests(services), sort_keys=False, allow_unicode=True), PRIVATE)
            print(f"{path}: the {len(services)} services that run now")
    return [path]


def _say_kept(path: Path, services: Sequence[dict[str, Any]]) -> None:
    """What somebody wrote stays, and is what starts."""
    from llmservice_api.manifest import load_manifests

    there = {manifest.service.full_name for manifest in load_manifests([path])}
    left_out = [name for name in map(full_name, services) if name not in there]
    more = f" It lacks {', '.join(left_out)}." if left_out else ""
    print(f"{path} was edited, and stays as it is.{more} Remove it to have it written anew.")


def _look_at_unit(path: Path) -> None:
    """UserError where somebody else wrote it."""
    if edited(path):
        raise UserError(
            f"{path} was edited, or is of another release of `llmservice autostart`, and is not written over.",
            "Keep what you changed with `systemctl --user edit llmservice` (a file beside it), take it away with "
            "`llmservice autostart --off`, then try again.",
        )


def _look_at(files: list[Path], *, written: bool, remote_code: bool) -> None:
    """A mistake is told now, and not when nobody looks."""
    from llmservice_api.manifest import load_manifests

    if not (written and files):
        return
    services = [manifest.service for manifest in load_manifests(files)]
    refused = [one.full_name for one in services if one.spec.model.trust_remote_code and not remote_code]
    if refused:
        raise UserError(
            f"{', '.join(refused)} runs code that its model's repository brings, and is refused without your leave.",
            f"Give it: `llmservice autostart {ALLOW_REMOTE_CODE}`.",
        )
