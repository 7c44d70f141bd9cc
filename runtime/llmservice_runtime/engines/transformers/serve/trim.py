"""What loading leaves in memory that nobody needs any more."""

from __future__ import annotations

import ctypes
from typing import Any


def trim(model: Any, *, converted: bool) -> None:
    """Give back what the load has freed (glibc keeps it: 360 MiB beside 280 MiB of 8-bit weights).

    Of weights that were `converted` the originals stay mapped for as long as one tensor of their file is used, so what
    is used as it was stored gets memory of its own.
    """
    if converted and model.device.type == "cpu":
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.data = tensor.data.clone()
    if (give_back := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        give_back(0)
