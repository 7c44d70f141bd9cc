"""What stands for a picture in the text that a chat template writes: nothing that a client could write too. Pure."""

from __future__ import annotations

import re
import secrets


def new_mark() -> str:
    """One for a process, or a request."""
    return f"<picture {secrets.token_hex(16)} "


def marked(mark: str, number: int) -> str:
    """The mark of one picture."""
    return f"{mark}{number}>"


def split(text: str, mark: str) -> tuple[list[str], list[int]]:
    """The texts around the pictures, one more than there are pictures, and these' numbers in the text's order."""
    found = re.split(f"{re.escape(mark)}([0-9]+)>", text)
    return found[::2], [int(number) for number in found[1::2]]
