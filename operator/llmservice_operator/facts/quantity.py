"""Kubernetes' quantities: `500m`, `1.5Gi`, `2e3`, and whatever else its grammar has (`+.5E-3`, `250n`)."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_QUANTITY = re.compile(r"([+-]?)([0-9]*\.?[0-9]*)(?:(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)|[eE]([+-]?[0-9]+))?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
LARGEST = Decimal((1 << 63) - 1)
"""No quantity is larger: Kubernetes caps it, as do we."""
SMALLEST = Decimal("1e-9")
"""What is finer is rounded up."""
_FAR = 2000
"""An exponent that is further from 0 leads below SMALLEST or above LARGEST whatever it goes with."""
_LONGEST = 1000
"""Digits."""


def parse_quantity(text: str | int | float) -> Decimal:
    """The number a quantity stands for (bytes, cores, pieces). Raises ValueError when it is none."""
    found = _QUANTITY.fullmatch(str(text)) if isinstance(text, str | int | float) else None
    if found is None or not 0 < len(found[0]) <= _LONGEST:
        raise ValueError(f"{str(text)[:100]!r} is not a quantity")
    sign, digits, suffix, exponent = found.groups()
    number = Decimal(f"0{digits}")
    if suffix in _BINARY:
        number *= 1 << _BINARY[suffix]
    else:
        power = int(exponent) if exponent else _DECIMAL.get(suffix, 0)
        number = number.scaleb(max(-_FAR, min(_FAR, power)))
    rounded = min(number, LARGEST).quantize(SMALLEST, ROUND_CEILING)
    return -rounded if sign == "-" else rounded
