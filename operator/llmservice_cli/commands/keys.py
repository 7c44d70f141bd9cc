"""`llmservice keys`: API keys of a cluster's gateway. One is printed once, as it is made; the cluster has its hash."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from llmservice_cli.output import unfailing
from llmservice_runtime.contract.errors import UserError

if TYPE_CHECKING:
    from llmservice_api.gateway_keys import KeyRecord
    from llmservice_cli.keys import Data, KeyStore

NAMESPACE = "llmservice-system"
GATEWAY = "llmservice-gateway"
DAYS = 7
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,6})([smhd])")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = _action(actions, "create", "make a key, and print it: it can't be read again", named=True)
    create.add_argument(
        "--services",
        action="append",
        required=True,
        metavar="PATTERN",
        help="what it may use: NAMESPACE/NAME with * for any text, several with commas between; quote it",
    )
    create.add_argument("--requests-per-minute", type=_count, metavar="N", help="at most (default: no limit)")
    create.add_argument(
        "--tokens-per-minute", type=_count, metavar="N", help="of prompts and answers (default: no limit)"
    )
    create.add_argument(
        "--launch", action="store_true",
        help="it may also launch and remove models by requests, among these services (the chart's gateway.launch)",
    )  # fmt: skip
    _action(actions, "list", "print the keys' names, services and limits", output=True)
    rotate = _action(actions, "rotate", "make another key of that name, and print it", named=True)
    rotate.add_argument(
        "--overlap", type=_duration, default=timedelta(), metavar="TIME",
        help="the one before works for so long: 90s, 30m, 1h, 7d (default: it ends now)",
    )  # fmt: skip
    _action(actions, "revoke", "end a key, within seconds", named=True)
    usage = _action(actions, "usage", "print what each key used on which day (UTC)", output=True)
    usage.add_argument("name", nargs="?", metavar="NAME", help="of one key (default: all)")
    usage.add_argument("--days", type=_count, default=DAYS, metavar="N", help=f"the last N (default: {DAYS})")


def _action(
    actions: Any, name: str, text: str, *, named: bool = False, output: bool = False
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    if named:
        parser.add_argument("name", metavar="NAME", help="of the key, which logs and metrics have")
    parser.add_argument(
        "-n", "--namespace", default=NAMESPACE, help=f"that the gateway was installed in (default: {NAMESPACE})"
    )
    parser.add_argument("--gateway", default=GATEWAY, metavar="SERVICE", help=f"its Service (default: {GATEWAY})")
    parser.add_argument("--kubeconfig", metavar="FILE", help="of the cluster (default: KUBECONFIG)")
    if output:
        parser.add_argument("-o", "--output", choices=("json",), help="instead of text")
    return parser


def run(args: argparse.Namespace) -> int:
    """0 when it was done."""
    from llmservice_cli.keys import KeyStore  # what talks to clusters takes long to import

    store = KeyStore(args.kubeconfig, args.namespace, args.gateway)
    with unfailing():
        _ACTIONS[args.action](store, args)
    return 0


def _create(store: KeyStore, args: argparse.Namespace) -> None:
    from llmservice_api.gateway_keys import checked_name, encoded, new_key, record_of

    key, patterns = new_key(), [part.strip() for text in args.services for part in text.split(",") if part.strip()]
    try:
        name = checked_name(args.name)
        record = record_of(key, patterns, args.requests_per_minute, args.tokens_per_minute, launch=args.launch)
    except ValueError as error:
        raise UserError(f"{error}.", "See llmservice keys create --help.") from error

    def add(data: Data) -> tuple[dict[str, str | None], None]:
        if name in data:
            raise UserError(f"there is a key {name} already.", f"`llmservice keys rotate {name}`, or another name.")
        return {name: encoded(record)}, None

    store.change(add)
    _show(key, f"The key {name} works within seconds. It is shown this once; the cluster has only its hash.")


def _rotate(store: KeyStore, args: argparse.Namespace) -> None:
    from llmservice_api.gateway_keys import encoded, new_key, rotated

    key = new_key()

    def change(data: Data) -> tuple[dict[str, str | None], None]:
        record = _record(data, args.name)
        return {args.name: encoded(rotated(record, key, datetime.now(UTC), args.overlap))}, None

    store.change(change)
    before = f"The one before works for {args.overlap} more." if args.overlap else "The one before ends now."
    _show(key, f"This is the key {args.name} within seconds. {before} It is shown this once.")


def _revoke(store: KeyStore, args: argparse.Namespace) -> None:
    def change(data: Data) -> tuple[dict[str, str | None], None]:
        if args.name not in data:
            raise _unknown(args.name)
        return {args.name: None}, None

    store.change(change)
    print(f"The key {args.name} ends within seconds.")


def _list(store: KeyStore, args: argparse.Namespace) -> None:
    from llmservice_api.gateway_keys import read

    records, wrong = read(store.entries())
    if args.output == "json":
        found = {
            name: record.model_dump(
                mode="json", by_alias=True, exclude_none=True, exclude={"hashes": {"__all__": {"sha256"}}}
            )
            for name, record in records.items()
        }
        print(json.dumps({"keys": found, "broken": wrong}, indent=2))
        return
    rows: list[tuple[str, ...]] = [("NAME", "SERVICES", "REQUESTS/MIN", "TOKENS/MIN", "CREATED", "")]
    rows += [_row(name, record) for name, record in records.items()]
    _table([*rows, *((name, "", "", "", "", f"not used: {why}") for name, why in wrong.items())])


def _row(name: str, record: KeyRecord) -> tuple[str, ...]:
    ends = [one.not_after for one in record.hashes if one.not_after is not None and one.not_after > datetime.now(UTC)]
    notes = ["may launch models"] if record.launch else []
    notes += [f"the one before works until {max(ends):%Y-%m-%d %H:%M} UTC"] if ends else []
    limits = (str(most) if most else "-" for most in (record.requests_per_minute, record.tokens_per_minute))
    return name, ",".join(record.services), *limits, f"{record.created:%Y-%m-%d}", "; ".join(notes)


def _usage(store: KeyStore, args: argparse.Namespace) -> None:
    since = datetime.now(UTC).date() - timedelta(days=min(args.days, 10_000) - 1)
    days = {
        day: {name: used for name, used in sorted(keys.items()) if args.name in (None, name)}
        for day, keys in sorted(store.usage().items())
        if day >= since
    }
    if args.output == "json":
        found = {
            day.isoformat(): {
                name: {
                    "requests": used.requests,
                    "promptTokens": used.prompt_tokens,
                    "completionTokens": used.answer_tokens,
                }
                for name, used in keys.items()
            }
            for day, keys in days.items()
        }
        print(json.dumps(found, indent=2))
        return
    rows = [("DAY", "KEY", "REQUESTS", "PROMPT TOKENS", "COMPLETION TOKENS")]
    _table(rows + [
        (day.isoformat(), name, str(used.requests), str(used.prompt_tokens), str(used.answer_tokens))
        for day, keys in days.items() for name, used in keys.items()
    ])  # fmt: skip


_ACTIONS = {"create": _create, "rotate": _rotate, "revoke": _revoke, "list": _list, "usage": _usage}


def _record(data: Data, name: str) -> KeyRecord:
    from llmservice_api.gateway_keys import decoded

    if name not in data:
        raise _unknown(name)
    try:
        return decoded(name, data[name])
    except ValueError as error:
        said = f"`llmservice keys revoke {name}`, and create it again."
        raise UserError(f"the entry {name} is broken: {error}.", said) from error


def _unknown(name: str) -> UserError:
    return UserError(f"there is no key {name!r}.", "`llmservice keys list` has them.")


def _show(key: str, said: str) -> None:
    """The key alone on standard output, so that `KEY=$(llmservice keys create ...)` has it."""
    print(said, file=sys.stderr)
    print(key)


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:12]) <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000000000")
    return int(text)


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time like 90s, 30m, 1h or 7d")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
