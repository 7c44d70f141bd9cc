"""Split layout: engines compute together only slots that are neighbours, so answers run side by side. Pure.

Each group of neighbours costs a pass over all weights in every step; sixteen answers in sixteen lone streams would cost
sixteen. Moving one stream costs about as much as one pass.
"""

from __future__ import annotations

from collections.abc import Collection


def groups(numbers: Collection[int]) -> int:
    """How many groups of neighbours these slot numbers form."""
    return sum(1 for number in numbers if number - 1 not in numbers)
