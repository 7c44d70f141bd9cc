"""`llmservice models`: what models are kept on this machine, and to be rid of those that nothing uses."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmservice_api.model_words import in_full
from llmservice_cli.commands.ps import full_name, table
from llmservice_cli.completers import completes
from llmservice_cli.completers import kept as kept_uris
from llmservice_cli.local.client import Control, NoInstanceError
from llmservice_cli.local.room import Room
from llmservice_cli.ollama import listing
from llmservice_cli.ollama.store import Found, stores
from llmservice_cli.ollama.store import kept as of_ollama
from llmservice_cli.places import Places
from llmservice_cli.wanted.choosing import named
from llmservice_cli.wanted.words import Meant
from llmservice_planning.words import memory
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.plain import STANDARD_OUTPUT
from llmservice_runtime.formats.listing import gguf_variants, matches
from llmservice_runtime.sources.cache import safe_revision
from llmservice_runtime.sources.errors import SourceError
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.kept import Kept, is_in_use, kept_models, prune, remove
from llmservice_runtime.sources.uri import parse_uri

HEADER = ("MODEL", "REVISION", "SIZE", "LAST USED", "USED BY")
REVISION_WIDTH = 12
FRESH_SECONDS = 600.0
"""What was brought or used so lately may be about to start: pruning spares it."""
Named = tuple[Kept, tuple[str, ...]]
"""A model, and which of its files; none = all of it."""
Chosen = tuple[str, str, str, tuple[str, ...]]
"""(service, URI, revision, patterns of its files) of what is served."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d{1,9})([smhdw])")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.set_defaults(action="list")
    _output(parser, None)
    actions = parser.add_subparsers(metavar="ACTION")
    listing = actions.add_parser("list", help="the models, what they take, and who uses them (default)")
    _output(listing, argparse.SUPPRESS)
    removal = actions.add_parser("rm", help="remove models by name")
    add_named(removal)
    pruning = actions.add_parser("prune", help="remove what nothing uses")
    pruning.add_argument("--unused-for", metavar="TIME", help="only what was not used for so long, as 30d")
    for action, changing in (("list", listing), ("rm", removal), ("prune", pruning)):
        changing.set_defaults(action=action)
        if action != "list":
            changing.add_argument("--dry-run", action="store_true", help="only say what would go")


def add_named(parser: argparse.ArgumentParser) -> None:
    """Models that are to go."""
    given = parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="a URI, URI@REVISION, or OWNER/NAME[:QUANTIZATION] of the hub"
    )
    completes(given, kept_uris)


def _output(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument("-o", "--output", choices=("json",), default=default, help="instead of a table")


def run(args: argparse.Namespace) -> int:
    """0; UserError for what is not there or in use."""
    places = Places.from_environment()
    try:
        return _act(args, places)
    except OSError as error:
        if error.filename == STANDARD_OUTPUT:
            raise
        raise UserError(
            f"the cache {places.cache} can't be changed: {error.strerror or error}: {error.filename}.",
            "Run it as the user whose cache that is.",
        ) from None


def _act(args: argparse.Namespace, places: Places) -> int:
    known = kept_models(places.cache)
    states = dict.fromkeys([places.state.absolute(), *Room().instances()])
    users = [user for state in states for user in _users(state)]
    if args.output and args.action != "list":
        raise UserError(f"`llmservice models {args.action}` has no -o.", "llmservice models -o json lists them.")
    if args.action == "list":
        found = of_ollama(stores())
        show = _as_json if args.output else _listed
        print(show(known, users, places.cache, found))
    elif args.action == "rm":
        _rm(_named(known, args.models), [user for state in states for user in _chosen(state)], args.dry_run)
    else:
        _prune(known, users, args)
    return 0


def _rm(models: list[Named], users: list[Chosen], dry: bool) -> None:
    for kept, files in models:
        theirs = {name: patterns for name, uri, revision, patterns in users if _uses(kept, uri, revision)}
        needed = {name for name, patterns in theirs.items() if any(matches(file, patterns) for file in files)}
        if services := [name for name in theirs if name in needed or not files]:
            raise UserError(
                f"{kept.name} is the model of {', '.join(services)}.", f"llmservice down {services[0]}, then again."
            )
        size = sum((kept.folder / file).stat().st_size for file in files) if files else kept.size
        if is_in_use(kept) or (not dry and remove(kept, files) is None):
            raise UserError(
                f"{kept.name} is in use, or being downloaded, by another process.", "Try again when that has ended."
            )
        what = f"{', '.join(files)} of {kept.name}" if files else kept.name
        print(f"{'would remove' if dry else 'removed'} {what} ({memory(size)})")


def forget(uri: str, include: Sequence[str], places: Places) -> None:
    """Remove what is kept of a model that a service had and no service has, or these files of it; what somebody else
    uses stays: other files of the model are no reason to keep these. UserError as `run`."""
    states = dict.fromkeys([places.state.absolute(), *Room().instances()])
    users = [user for state in states for user in _chosen(state)]
    for kept in kept_models(places.cache):
        others = [patterns for _, other, revision, patterns in users if _uses(kept, other, revision)]
        if kept.uri != uri or not all(others):
            continue
        here = [file for variant in gguf_variants(_ggufs(kept)) for file in variant.files]
        theirs = {file for file in here if any(matches(file, files) for files in others)}
        gone = [file for file in here if matches(file, include) and file not in theirs]
        if len(gone) == len(here) and not (others and not here):  # without these it is of another kind, or on its way
            remove(kept)
        elif gone:
            remove(kept, gone)


def _prune(known: list[Kept], users: list[tuple[str, str, str]], args: argparse.Namespace) -> None:
    seconds = FRESH_SECONDS if args.unused_for is None else duration(args.unused_for)
    if seconds < FRESH_SECONDS:
        raise UserError(
            f"--unused-for is {args.unused_for}, and what was used a moment ago may be about to start.",
            f"Write {FRESH_SECONDS / 60:.0f}m or more; llmservice models rm MODEL removes one at once.",
        )
    before = time.time() - seconds

    def spared(kept: Kept) -> bool:
        return bool(_used_by(kept, users))

    unused = [kept for kept in known if not spared(kept) and not is_in_use(kept)]
    if args.dry_run:
        gone = [(kept, kept.size) for kept in unused if kept.used < before]
    else:
        gone = list(prune(known, before, spared))
    for kept, size in gone:
        print(f"{'would remove' if args.dry_run else 'removed'} {kept.name} ({memory(size)})")
    print(f"{memory(sum(size for _, size in gone))} {'would be' if args.dry_run else 'were'} freed.")
    if young := [kept for kept in unused if kept.used >= before]:
        since = args.unused_for or f"{FRESH_SECONDS / 60:.0f}m"
        print(f"{len(young)} that nothing uses now were used in the last {since}: llmservice models rm {young[0].uri}")


def duration(text: str) -> float:
    """`90s`, `12h`, `30d` in seconds. Raises UserError for anything else."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise UserError(
            f"--unused-for is {text!r}, which is no time.", "Write a number and one of s, m, h, d, w: 30d, 12h."
        )
    return float(found[1]) * _UNITS[found[2]]


def _named(known: list[Kept], names: list[str]) -> list[Named]:
    chosen: dict[Path, Named] = {}
    for word in names:
        name, choice = in_full(word)
        if not (found := [kept for kept in known if name == kept.uri or _is_revision(kept, name)]):
            raise _not_here(word)
        if name != found[0].uri and len(found) > 1:
            raise UserError(f"{word} may be any of {', '.join(kept.name for kept in found)}.", "Write more of it.")
        chosen |= {kept.folder: (kept, _files(kept, word, name, choice)) for kept in found}
    return list(chosen.values())


def _files(kept: Kept, word: str, uri: str, choice: str) -> tuple[str, ...]:
    """Those of the quantization that was named; none = the whole model, as when there is no other."""
    if not choice:
        return ()
    here = gguf_variants(_ggufs(kept))
    wanted = named(Meant(word, uri, choice), here)
    return wanted.files if len(here) > 1 else ()


def _ggufs(kept: Kept) -> list[FileEntry]:
    paths = kept.folder.rglob("*.gguf")
    return [FileEntry(path.relative_to(kept.folder).as_posix(), path.stat().st_size) for path in paths]


def _not_here(word: str) -> UserError:
    """Ollama's files are Ollama's."""
    if of_ollama(stores()).named(word):
        return UserError(f"{word} is in Ollama's store, of which nothing is removed here.", f"ollama rm {word}")
    return UserError(f"there is no model {word} on this machine.", "llmservice models lists them.")


def _is_revision(kept: Kept, name: str) -> bool:
    """Whether `URI@REVISION` is this one; a revision may be cut short, as it is listed."""
    return len(name) > len(kept.uri) + 1 and kept.name.startswith(name)


def _users(state: Path) -> Iterator[tuple[str, str, str]]:
    """(service, URI, revision) of what an instance serves or prepares; the revision may not be known yet."""
    for entry in _entries(state):
        if found := _model(entry):
            yield full_name(entry), *found


def _chosen(state: Path) -> Iterator[Chosen]:
    """The same with patterns of its files; no pattern = all of them."""
    for entry in _entries(state):
        if found := _model(entry):
            yield full_name(entry), *found, tuple(entry["object"]["spec"]["model"].get("include") or ())


def _entries(state: Path) -> list[dict[str, Any]]:
    try:
        services: list[dict[str, Any]] = Control(state).snapshot()["services"]
    except NoInstanceError:
        return []
    return services


def _model(entry: dict[str, Any]) -> tuple[str, str] | None:
    found = entry["object"]
    try:
        uri = parse_uri(found["spec"]["model"]["uri"], Path("/")).shown
    except SourceError:
        return None
    model = found["status"].get("model") or {}
    return uri, safe_revision(model.get("resolvedRevision") or "") if model else ""


def _used_by(kept: Kept, users: list[tuple[str, str, str]]) -> list[str]:
    return [name for name, uri, revision in users if _uses(kept, uri, revision)]


def _uses(kept: Kept, uri: str, revision: str) -> bool:
    return uri == kept.uri and revision in ("", kept.commit)


def _listed(known: list[Kept], users: list[tuple[str, str, str]], cache: Path, found: Found) -> str:
    mine = f"{memory(sum(kept.size for kept in known))} in {cache}" if known else f"No model is kept in {cache}."
    remarks = [mine, *listing.remarks(found)]
    if not (known or found.models):
        return "\n".join(remarks)
    rows = [
        (
            kept.uri,
            kept.revision[:REVISION_WIDTH],
            memory(kept.size) + ("" if kept.whole else " (part of a download)"),
            datetime.fromtimestamp(kept.used).strftime("%Y-%m-%d %H:%M"),
            _user(kept, users),
        )
        for kept in reversed(known)
    ]
    return "\n".join([table([HEADER, *rows, *listing.rows(found, cache, users)]), *remarks])


def _user(kept: Kept, users: list[tuple[str, str, str]]) -> str:
    names = _used_by(kept, users)
    return ", ".join(names) or ("another process" if is_in_use(kept) else "-")


def _as_json(known: list[Kept], users: list[tuple[str, str, str]], cache: Path, found: Found) -> str:
    body = [
        {
            "store": "cache",
            "uri": kept.uri,
            "revision": kept.revision,
            "folder": str(kept.folder),
            "bytes": kept.size,
            "lastUsed": datetime.fromtimestamp(kept.used, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "complete": kept.whole,
            "usedBy": _used_by(kept, users),
            "inUse": bool(_used_by(kept, users)) or is_in_use(kept),
        }
        for kept in reversed(known)
    ]
    body += listing.as_objects(found, cache, users)
    return json.dumps(body, indent=2, ensure_ascii=False)
