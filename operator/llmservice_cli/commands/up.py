"""`llmservice up`: serve manifests on this machine, or hand them to the instance that already runs."""

from __future__ import annotations

import argparse
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmservice_api.manifest import Manifest, load_manifests
from llmservice_cli.entry import leave_on_interrupt
from llmservice_cli.front_options import FIXED, add_front, front_of, seconds
from llmservice_cli.local.background import spawn
from llmservice_cli.local.client import Control, NoInstanceError, StoppingError
from llmservice_cli.local.front import Front
from llmservice_cli.local.joining import own_or_join
from llmservice_cli.local.offer import Offer
from llmservice_cli.local.prepare import preparing
from llmservice_cli.local.run import Program, listen
from llmservice_cli.local.submit import Outcome, Submission
from llmservice_cli.output import unfailing
from llmservice_cli.places import Places
from llmservice_cli.plans import add_leave, places_of
from llmservice_cli.told import tell
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.listening import is_loopback
from llmservice_runtime.contract.ports import GATEWAY_PORT
from llmservice_runtime.sources.progress import progress_for

LAUNCHES = "serving what clients launch; `llmservice down` stops it."


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "-f", "--file", dest="files", type=Path, action="append", default=[], metavar="FILE",
        help="manifest, folder of manifests, or - for standard input; may be given several times. Only --allow-launch "
        "does without",
    )  # fmt: skip
    add_front(parser)
    add_leave(parser)
    parser.add_argument("--detach", action="store_true", help="return when the services are ready, leave them running")
    parser.add_argument("--yes", action="store_true", help="install an engine that is needed without asking")
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="give up waiting for ready after this long")


def run(args: argparse.Namespace) -> int:
    """0 when at least one of the services serves (or served until it was stopped), else 1."""
    with unfailing() as finish:
        try:
            code = _run(args)
        except UserError as error:
            tell(error)
            code = 1
        if preparing():  # a download would keep the process until its end; it is continued next time
            finish()
            os._exit(code)
        return code


def _run(args: argparse.Namespace) -> int:
    if not (args.files or args.allow_launch):
        remedy = "Name a manifest: `llmservice up -f FILE`, or a model: `llmservice run MODEL`."
        raise UserError("there is nothing to serve.", remedy)
    manifests = load_manifests(args.files) if args.files else ()
    places = places_of(args)
    front, port = front_of(args), GATEWAY_PORT if args.port is None else args.port
    lock = own_or_join(places.state)
    if lock is None:
        return _join(args, places, manifests)
    try:
        listener = listen(front.host, port)
    except UserError:
        lock.release()
        raise
    if not is_loopback(front.host):
        say(
            f"warning: listening on {front.host}: whoever can reach this machine can use these services, without a key."
        )
    if args.detach:
        parent = spawn(places.state, lock, listener, front)
        try:
            return _submit_to_background(args, places, manifests)
        finally:
            os.close(parent)
    return Foreground(args, places, manifests).run(listener, front)


def say(text: str) -> None:
    """One thing that happened."""
    print(text, flush=True)


def _join(args: argparse.Namespace, places: Places, manifests: Sequence[Manifest]) -> int:
    control = Control(places.state)
    now = control.snapshot()
    say(f"joined the running instance (pid {now['pid']}) at {now['url']}{_page(now)}")
    fixed = [option for option in FIXED if getattr(args, option[2:].replace("-", "_")) not in (None, [])]
    if fixed:
        say(f"  it stays as it is: {', '.join(fixed)} count only when an instance starts.")
    if not manifests:
        return 0
    outcome = Submission(control, places, say, tell=True, offer=Offer(args.yes)).run(
        manifests, progress_for, args.timeout
    )
    return _report(outcome, now["url"], args.timeout)


def _submit_to_background(args: argparse.Namespace, places: Places, manifests: Sequence[Manifest]) -> int:
    control = Control(places.state)
    now = control.snapshot()
    url = now["url"]
    say(f"gateway at {url}, in the background{_page(now)}")
    if not manifests:
        say(LAUNCHES)
        return 0
    outcome = Submission(control, places, say, tell=True, offer=Offer(args.yes)).run(
        manifests, progress_for, args.timeout
    )
    if outcome.nothing:
        for _ in control.down([], force=True):
            pass
        say("nothing could be served; stopped.")
    return _report(outcome, url, args.timeout)


def _page(now: Mapping[str, Any]) -> str:
    """Where a browser goes."""
    return f"; for a browser: {now['page']}" if now.get("page") else ""


def _report(outcome: Outcome, url: str, timeout: float | None) -> int:
    if outcome.waiting:
        say(f"not ready after {timeout:.0f} s: {', '.join(outcome.waiting)}; `llmservice ps` shows how it goes on.")
    if outcome.ready:
        say(f"serving {', '.join(outcome.ready)} at {url}")
        say("`llmservice ps --snippets NAME` shows how to ask it, `llmservice down` stops it.")
    if outcome.stopped:
        say(f"stopped, as spec.replicas is 0: {', '.join(outcome.stopped)}; `llmservice scale` starts it.")
    return 0 if outcome.ready or outcome.stopped else 1


class Foreground:
    """`up` without --detach: the instance on the main thread, what is to be served from a thread beside it."""

    def __init__(self, args: argparse.Namespace, places: Places, manifests: Sequence[Manifest]) -> None:
        self._timeout: float | None = args.timeout
        self._offer = Offer(args.yes)
        self._places = places
        self._manifests = manifests
        self._code: int | None = None
        self._thread = threading.Thread(target=self._submit, daemon=True, name="submit")

    def run(self, listener: socket.socket, front: Front) -> int:
        """Until it is stopped, or at once when nothing could be served."""
        self._program = Program(self._places.state, listener, front, say, self._thread.start)
        self._program.run()
        leave_on_interrupt()  # the event loop took it, and gave Python's own back
        if self._code is None:  # it ended before the submission could say how it went
            return 0 if self._program.asked_to_end else 1
        return self._code

    def _submit(self) -> None:
        control = Control(self._places.state)
        try:
            now = control.snapshot()
            url = now["url"]
            say(f"gateway at {url}{_page(now)}")
            if not self._manifests:
                say(LAUNCHES)
                self._code = 0
                return
            outcome = Submission(control, self._places, say, tell=False, offer=self._offer).run(
                self._manifests, progress_for, self._timeout
            )
            if self._program.asked_to_end:
                self._code = 0
                return
            self._code = _report(outcome, url, self._timeout)
            if outcome.nothing:
                say("nothing could be served.")
                self._program.end_soon()
        except (NoInstanceError, StoppingError):
            self._code = 0  # it was stopped while this was under way
        except UserError as error:
            tell(error)
            self._code = 1
            self._program.end_soon()
        except BaseException:
            self._program.end_soon()
            raise
