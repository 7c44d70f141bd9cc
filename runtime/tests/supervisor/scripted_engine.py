"""A scripted engine: speaks the report protocol and fails as told. Run as `python scripted_engine.py MODE [ARG]`."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

report_fd = int(os.environ["LLMSERVICE_REPORT_FD"])
lifeline_fd = int(os.environ["LLMSERVICE_LIFELINE_FD"])


def report(**body: Any) -> None:
    os.write(report_fd, json.dumps(body).encode() + b"\n")


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


def lifeline() -> None:
    os.read(lifeline_fd, 1)
    os._exit(9)


drained = threading.Event()


def drain_when_told() -> None:
    with os.fdopen(int(os.environ["LLMSERVICE_CONTROL_FD"])) as control:
        print(f"engine: told {control.readline().strip()}", flush=True)
    drained.set()
    report(kind="drained")


def be_ready(**more: Any) -> None:
    server = HTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    report(kind="ready", port=server.server_port, load_seconds=0.1, **more)


def stop_after(seconds: float) -> None:
    """Drain for so long on SIGTERM, then exit cleanly."""

    def drain(*_: object) -> None:
        print("engine: draining", flush=True)
        time.sleep(seconds)
        os._exit(0)

    signal.signal(signal.SIGTERM, drain)


def wait() -> None:
    while True:
        signal.pause()


def main() -> None:
    mode = sys.argv[1]
    argument = sys.argv[2] if len(sys.argv) > 2 else ""
    if mode != "deaf":
        threading.Thread(target=lifeline, daemon=True).start()
    stop_after(float(argument) if mode == "ready" and argument else 0.0)
    report(kind="phase", phase="Loading", progress=0.25, detail="tensors")
    if mode in ("ready", "deaf"):
        if mode == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        be_ready()
    elif mode == "busy":  # work that never moves
        be_ready()
        report(kind="step", running=2, waiting=1, steps=7)
    elif mode == "told":  # drains when it is told, and takes SIGTERM for the end
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0 if drained.is_set() else 5))
        threading.Thread(target=drain_when_told, daemon=True).start()
        be_ready(told=True)
    elif mode == "chatty":  # 4 MiB on each stream before it is ready, then a line for each of its steps
        for fd in (1, 2):
            for number in range(4096):
                os.write(fd, f"{number:07d} {'x' * 1015}\n".encode())
        be_ready()
        for steps in range(1, 10**9):
            os.write(2, b"y" * 1024 + b"\n")
            report(kind="step", running=1, waiting=0, steps=steps)
            time.sleep(0.05)
    elif mode == "crash":
        sys.exit("RuntimeError: tensor blk.0.attn_q.weight has a wrong shape")
    elif mode == "fail":
        report(kind="failure", failure=argument, message="as told", remedy="do this")
        sys.exit(3)
    elif mode == "say":
        sys.exit(argument)
    elif mode == "signal":
        os.kill(os.getpid(), getattr(signal, argument))
    elif mode == "segv":
        ctypes.string_at(0)
    elif mode == "once":  # fails the first time, then serves
        if not Path(argument).exists():
            Path(argument).touch()
            os._exit(1)
        be_ready()
    elif mode == "nest":  # a grandchild in the same group that must not survive
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        Path(argument).write_text(str(pid))
        be_ready()
    wait()


main()
