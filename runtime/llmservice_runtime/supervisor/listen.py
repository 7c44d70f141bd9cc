"""The supervisor's own port, taken before anything slow happens."""

from __future__ import annotations

import socket

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass

BACKLOG = 128


def listen(host: str, port: int) -> socket.socket:
    """A listening socket (port 0 = any free one); UserError PortInUse names the port."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(
            f"The supervisor can't listen on {host}:{port}: {error.strerror}.",
            "Choose another --supervisor-port (0 = any free one).",
            FailureClass.PORT_IN_USE,
        ) from error
    return listener
