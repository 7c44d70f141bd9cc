"""Files that `autostart` writes: again and again, for as long as nobody else has changed them."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from llmservice_runtime.contract.errors import UserError

PRIVATE, READABLE = 0o600, 0o644
_SEAL = re.compile(r"# llmservice autostart writes this anew unless it was edited \(([0-9a-f]{16})\)\.\n")


def edited(path: Path) -> bool:
    """Whether a file is there that has more or less than was written last. UserError where it can't be read."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}.", "Give it to this user.") from None
    seal = _SEAL.match(text)
    return seal is None or seal[1] != _digest(text[seal.end() :])


def write(path: Path, text: str, mode: int) -> None:
    """All at once, with these permissions. UserError where that can't be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(f"# llmservice autostart writes this anew unless it was edited ({_digest(text)}).\n{text}")
        new.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror or error}.", "Free space, or give the folder to this user."
        ) from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
