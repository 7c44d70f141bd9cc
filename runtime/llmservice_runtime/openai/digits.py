"""Numbers of vectors as JSON shows them: with as many digits as 32-bit floats have, where doubles would show 17."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from llmservice_runtime.protocol.pooling import Vector

FRACTION, BIAS, EXPONENTS = 23, 127, 256
"""Of a 32-bit float: bits of its fraction, what its exponent is stored with, and how many there are."""
EXACT = 22
"""Powers of ten that doubles hold exactly: a whole number divided by one is the double nearest to that decimal."""


def _places(exponent: int) -> int:
    """Decimals that tell floats of this exponent apart: a step of the last one is less than from one to the next."""
    return min(max(math.floor((FRACTION + BIAS - exponent) * math.log10(2)) + 1, 0), EXACT)


_SCALES: npt.NDArray[np.float64] = 10.0 ** np.array([_places(exponent) for exponent in range(EXPONENTS)])


def digits(vector: Vector) -> list[float]:
    """Its numbers; each is the same 32-bit float as before, and is written in some eight digits."""
    given = np.frombuffer(vector, np.float32)
    scale = _SCALES[(given.view(np.int32) >> FRACTION) & (EXPONENTS - 1)]
    with np.errstate(invalid="ignore"):  # what is no number stays none
        exact: npt.NDArray[np.float64] = given.astype(np.float64)
        short = np.rint(exact * scale) / scale
        same = short.astype(np.float32) == given
    if not same.all():  # very small ones, and what is no number
        short = np.where(same, short, exact)
    numbers: list[float] = short.tolist()
    return numbers
