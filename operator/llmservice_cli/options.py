"""Values that options of several commands take."""

from __future__ import annotations

import argparse


def port_number(text: str) -> int:
    """Of an option: 0 to 65535."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)
