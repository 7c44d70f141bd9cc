"""The supervisor's own port, taken before anything slow happens."""

from __future__ import annotations

import os
import socket

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.listening import in_url, listening, refuse_host

BACKLOG = 128


def listen(host: str, port: int) -> socket.socket:
    """A listening socket (port 0 = any free one); UserError PortInUse names the port."""
    try:
        return listening(host, port, BACKLOG)
    except OSError as error:
        refuse_host(host, error)
        raise UserError(
            f"The supervisor can't listen on {in_url(host)}:{port}: {os.strerror(error.errno or 0)}.",
            "Choose another --supervisor-port (0 = any free one).",
            FailureClass.PORT_IN_USE,
        ) from error
