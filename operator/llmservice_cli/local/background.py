"""An instance of its own, in a session of its own: what `up --detach` leaves running."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from llmservice_cli.local.disk import problem, unwritable
from llmservice_cli.local.front import Front
from llmservice_cli.local.lock import InstanceLock
from llmservice_cli.local.process import rotate
from llmservice_cli.local.run import Program
from llmservice_cli.output import unfailing
from llmservice_runtime.contract.errors import UserError

LOG = "up.log"


def spawn(state: Path, lock: InstanceLock, listener: socket.socket, front: Front) -> int:
    """Start a background instance that takes over the lock and the socket; returns once it answers.

    The result is a descriptor: an instance that has not been given anything to serve ends when it is closed.
    UserError with the end of its log when it does not come up.
    """
    log = state / LOG
    rotate(log)
    try:
        output = log.open("ab")
    except OSError as error:
        lock.release()
        listener.close()
        raise unwritable(state, error) from None
    ready, ready_child = os.pipe()
    parent_child, parent = os.pipe()
    fds = (lock.fd, listener.fileno(), parent_child, ready_child)
    with output:
        subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "llmservice_cli.local.background",
                str(state),
                front.to_json(),
                *map(str, fds),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=fds,
            start_new_session=True,
        )
    for fd in (ready_child, parent_child):
        os.close(fd)
    lock.release()
    listener.close()
    with os.fdopen(ready, "rb") as answer:
        if answer.read(1):
            return parent
    if full := problem(state):
        raise full
    end = log.read_text(errors="replace").splitlines()[-5:]
    raise UserError("the background instance did not start:", f"Its log is {log}.", details=end)


def main(argv: list[str]) -> None:
    """The background process: state folder, Front, then the descriptors of lock, socket, parent pipe and ready pipe."""
    state, front, fds = Path(argv[0]), Front.from_json(argv[1]), [int(word) for word in argv[2:]]
    _, listening, parent, ready = fds
    for fd in fds:
        os.set_inheritable(fd, False)

    def started() -> None:
        os.write(ready, b"1")
        os.close(ready)

    def say(text: str) -> None:
        print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}", flush=True)

    with unfailing():  # the log's disk may be full
        Program(state, socket.socket(fileno=listening), front, say, started, parent).run()


if __name__ == "__main__":
    main(sys.argv[1:])
