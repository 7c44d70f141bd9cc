"""The start of every engine process of ours: read the settings, bind, then load while the web stack is imported."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from llmservice_runtime.contract.bounds import POOLED
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.listening import in_url, listening, refuse_host
from llmservice_runtime.contract.logs import configure
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.loading import Load, Loading
from llmservice_runtime.openai.reports import Reporter, die_with_parent
from llmservice_runtime.openai.templates import warm_up

BACKLOG = 1024
WAIT_NS = 50_000
"""How long threads that compute wait for each other in a loop before they sleep..."""
TURN_NS = {"GenuineIntel": 50, "AuthenticAMD": 23}
"""...and a turn of OpenMP's loop, on processors of these makes: little more than the pause that they make in it."""
CPUINFO = Path("/proc/cpuinfo")
GIVES_WAY = 10
"""The nice value of what makes vectors and scores."""

log = logging.getLogger(__name__)


def main(load: Load, unsupported_fields: Mapping[str, str] | None = None) -> int:
    """`python -m <engine>.serve --settings FILE`: serve until told to stop; the exit code.

    `unsupported_fields` of requests are refused, with what to use instead.
    """
    parser = argparse.ArgumentParser(description="One model, for the supervisor to start.")
    parser.add_argument("--settings", required=True, type=Path, help="JSON file of RuntimeSettings")
    arguments = parser.parse_args()
    configure(logging.INFO, "%(levelname)s %(name)s: %(message)s")
    try:
        settings = RuntimeSettings.from_json(arguments.settings.read_text())
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            Reporter.from_environment().failure(error)
        parser.error(f"{arguments.settings}: {error}")
    # aiohttp reads every CA certificate there is when it is imported (70 ms); no TLS connection is made from here.
    os.environ.setdefault("SSL_CERT_FILE", os.devnull)
    os.environ.update(brief_waits(os.environ, CPUINFO.read_text()))
    return run(settings, load, unsupported_fields)


def brief_waits(environ: Mapping[str, str], cpuinfo: str) -> dict[str, str]:
    """What makes OpenMP's threads wait for each other in a loop for `WAIT_NS` alone, unless somebody has said it.

    Its own milliseconds take the processor from the one that is waited for, wherever others want it too. On two cores
    with ten times the work, 2 threads: 0.4 tokens/s of llama.cpp became 31, 2.4 of Transformers 15. With much less than
    lies between two steps, a thread would have to be woken for each of them.
    """
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & environ.keys():
        return {}
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    make = next((value.strip() for name, _, value in lines if name.strip() == "vendor_id"), "")
    return {"GOMP_SPINCOUNT": str(WAIT_NS // TURN_NS.get(make, max(TURN_NS.values())))}


def give_way() -> None:
    """Leave processors to who writes text on the same machine: of a gap between tokens everybody notices, a vector may
    come later. It still gets a tenth of what both want."""
    os.nice(GIVES_WAY)
    if os.getsid(0) == os.getpid():  # Linux weighs sessions against each other, and these processes are one
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(GIVES_WAY))


def run(settings: RuntimeSettings, load: Load, unsupported_fields: Mapping[str, str] | None = None) -> int:
    """Host one engine until it is told to stop; the exit code of the process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Until the host takes over: nothing is served yet.
        signal.signal(number, lambda *_: os._exit(0))
    # What is imported and loaded stays: looking it over is 75 of 495 ms of imports. The host collects once it serves.
    gc.disable()
    die_with_parent()
    if settings.task in POOLED:
        give_way()
    reporter = Reporter.from_environment()
    reporter.phase(Phase.STARTING)
    try:
        listener = bind(settings.host, settings.port)
        if settings.task == "Chat":
            warm_up()
        loading = Loading(settings, load, reporter)
        loading.wait_imported()
        # The web stack takes longer to import than a small model to load.
        import asyncio

        from llmservice_runtime.openai.host import Host

        return asyncio.run(Host(settings, loading, reporter, listener, unsupported_fields or {}).run())
    except UserError as error:
        log.error("%s", error)
        reporter.failure(error)
        return 1


def bind(host: str, port: int) -> socket.socket:
    """The listening socket, before anything slow happens; UserError PortInUse names the port."""
    try:
        return listening(host, port, BACKLOG)
    except OSError as error:
        refuse_host(host, error)
        raise UserError(
            f"The engine can't listen on {in_url(host)}:{port}: {os.strerror(error.errno or 0)}.",
            "End the process that holds the port, or choose another (0 = any free one).",
            FailureClass.PORT_IN_USE,
        ) from error
