"""Whether a checkpoint's files are whole: a look before an engine is started, which would say less of it, and later."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.formats.safetensors import read_header

TEXTS = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
"""Files of JSON that engines read whole, where they are there."""
SUFFIX = ".safetensors"


def check_files(folder: Path, planned: Sequence[str] = ()) -> None:
    """UserError ModelDamaged names the first file that is cut off, or is not what its name says.

    `planned`: the weights that were planned with; empty = all there are. Headers alone are read of them: some ms.
    """
    for file in (folder / name for name in TEXTS):
        try:
            if file.exists():
                json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise damaged(f"{file.name} is no JSON: {error}.") from None
    weights = [folder / name for name in planned if name.endswith(SUFFIX)] or sorted(folder.glob(f"*{SUFFIX}"))
    for file in (one for one in weights if one.exists()):
        with file.open("rb") as stream:
            read_header(partial(_read, stream.fileno()), file.stat().st_size, file.name)


def _read(descriptor: int, start: int, length: int) -> bytes:
    return os.pread(descriptor, length, start)
