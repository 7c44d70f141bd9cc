"""`llmservice autostart`: have systemd serve whenever this user's session begins."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from llmservice_cli.autostart import systemd
from llmservice_cli.autostart.manifests import manifests
from llmservice_cli.autostart.unit import config_folder, left_out, unit, unit_path
from llmservice_cli.local.client import Control, NoInstanceError
from llmservice_cli.options import port_number
from llmservice_cli.places import Places
from llmservice_runtime.contract.errors import UserError


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "-f", "--file", dest="files", type=Path, action="append", metavar="FILE",
        help="manifest or folder of manifests to serve (default: the services that run now)",
    )  # fmt: skip
    parser.add_argument("--port", type=port_number, metavar="N", help="of the gateway (default: as now, or 8080)")
    parser.add_argument("--print", dest="only_print", action="store_true", help="print the unit, and change nothing")
    parser.add_argument("--off", action="store_true", help="start nothing any more")


def run(args: argparse.Namespace) -> int:
    """0; UserError where there is no systemd, or it refuses."""
    path = unit_path(os.environ)
    if args.off:
        return _off(path)
    if not args.only_print:
        systemd.check()
    files = [file.absolute() for file in args.files or ()] or [_written(args.only_print)]
    _look_at(files, written=not (args.only_print and not args.files))
    text = unit(_command(files, args.port), os.environ)
    if args.only_print:
        print(text, end="")
        return 0
    _write(path, text)
    start = not _runs()
    systemd.enable(start=start)
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
    path.unlink()
    print(f"removed {path}")
    return 0


def _command(files: list[Path], port: int | None) -> list[str]:
    program = Path(sys.executable).with_name("llmservice")
    found = str(program) if program.exists() else shutil.which("llmservice")
    if found is None:
        raise UserError("the program `llmservice` is nowhere on this machine.", "Install it, or put it on the PATH.")
    words = [found, "up", *(word for file in files for word in ("-f", str(file)))]
    port = _port() if port is None else port
    return words if port is None else [*words, "--port", str(port)]


def _written(only_print: bool) -> Path:
    """What runs now, written down where a person finds it."""
    import yaml

    path = config_folder(os.environ) / "llmservice" / "services.yaml"
    try:
        services = Control(Places.from_environment().state).snapshot()["services"]
    except NoInstanceError:
        services = []
    if not services and not path.exists():
        raise UserError("no service runs that could be started again.", "Start one, or name a manifest with -f FILE.")
    if services and not only_print:
        _write(path, yaml.safe_dump_all(manifests(services), sort_keys=False, allow_unicode=True))
        print(f"{path}: the {len(services)} services that run now")
    return path


def _look_at(files: list[Path], *, written: bool) -> None:
    """A mistake is told now, and not when nobody looks."""
    from llmservice_api.manifest import load_manifests

    if written:
        load_manifests(files)


def _runs() -> bool:
    try:
        Control(Places.from_environment().state).snapshot()
    except NoInstanceError:
        return False
    return True


def _port() -> int | None:
    """Of the running instance; None = the default."""
    try:
        url: str = Control(Places.from_environment().state).snapshot()["url"]
    except NoInstanceError:
        return None
    return int(url.removesuffix("/v1").rpartition(":")[2])


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror or error}.", "Free space, or give the folder to this user."
        ) from None
