"""Log records of one line each, whatever was put into them."""

from __future__ import annotations

import logging
import sys

from llmservice_runtime.contract.outlet import Outlet, OutletHandler
from llmservice_runtime.contract.plain import plain, plain_lines


class PlainFormatter(logging.Formatter):
    """Messages are shown in one line and without control characters; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        record.message = plain(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback below it."""
        return plain_lines(super().format(record))


def configure(level: str | int, form: str) -> None:
    """Log to standard error, whose reader may stall: that stops nothing."""
    logging.basicConfig(level=level, handlers=[OutletHandler(Outlet(sys.stderr.fileno()))])
    for handler in logging.getLogger().handlers:
        handler.setFormatter(PlainFormatter(form))
