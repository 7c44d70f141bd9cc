"""Patterns that a stranger's file brings, looked for in names in bounded time.

A search that goes back on its choices can take for ever. This one carries all places that a name may be read up to: the
longest takes about as many steps as pattern and name have letters, multiplied.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Set

Step = Callable[[str, Set[int]], Set[int]]
"""From where a part of a pattern may begin in a name to where it may end."""

Finder = Callable[[str], bool]
Finders = Mapping[str, Finder]
MOST_STEPS = 16_000_000
"""Letters of patterns times those of names: about a second."""
LONGEST = 120
"""Characters of a pattern or a name."""
SPECIAL = frozenset("*+?^$()[]{}|\\")
_COUNT = re.compile(r"\*|\+|\?|\{(\d)(,?)(\d?)\}")
_SINGLE = re.compile(r"[^][*+?{}\\]|\\[^0-9ABZbguUxN]|\[\^?(?:\\.|[^][\\&~|-]|(?<=\w)-(?=\w))+\]")
"""A letter, an escape or a set."""


def finder(pattern: str, at_start: bool = False) -> Finder | None:
    """What says whether a name has the pattern in it, or begins with it.

    None: it is no pattern, or has what is not read here, as references, looking around, flags, counts within counts.
    """
    if len(pattern) > LONGEST:
        return None
    try:
        return functools.partial(_found, _Reader(pattern).whole(), at_start)
    except (_Unread, re.error):
        return None


def finders(written: Mapping[str, str], letters: int, at_start: bool = False) -> Finders | None:
    """Those of several patterns, for names that have so many letters together; None where one is not read, or all
    would take long."""
    found = {key: finder(pattern, at_start) for key, pattern in written.items()}
    long = sum(map(len, written.values())) * letters > MOST_STEPS
    return None if long or None in found.values() else {key: one for key, one in found.items() if one}


def _found(step: Step, at_start: bool, name: str) -> bool:
    return len(name) <= LONGEST and bool(step(name, {0} if at_start else set(range(len(name) + 1))))


class _Unread(ValueError):
    """Something that is not read here."""


class _Reader:
    """One pattern, read from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counts = 0

    def whole(self) -> Step:
        step = self._ways()
        if self._at < len(self._text):
            raise _Unread
        return step

    def _ways(self) -> Step:
        ways = [self._sequence()]
        while self._takes("|"):
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else lambda name, places: set().union(*(way(name, places) for way in ways))

    def _sequence(self) -> Step:
        steps = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            steps.append(self._counted())

        def follow(name: str, places: Set[int]) -> Set[int]:
            for step in steps:
                if not places:
                    break
                places = step(name, places)
            return places

        return follow

    def _counted(self) -> Step:
        before, anchor = self._counts, self._text[self._at] in "^$"
        step = self._one()
        if not (found := _COUNT.match(self._text, self._at)):
            return step
        self._at = found.end()
        self._takes("?")  # as few as possible: found all the same
        if anchor or self._counts > before or self._text[self._at : self._at + 1] == "+":
            raise _Unread
        self._counts += 1
        return _repeated(step, *_bounds(found))

    def _one(self) -> Step:
        if self._takes("("):
            if self._takes("?") and not self._takes(":"):
                raise _Unread
            step = self._ways()
            if not self._takes(")"):
                raise _Unread
            return step
        if self._takes("^"):
            return lambda name, places: places & {0}
        if self._takes("$"):
            return lambda name, places: places & {len(name)}
        if not (found := _SINGLE.match(self._text, self._at)):
            raise _Unread
        self._at = found.end()
        return _letter(found[0])

    def _takes(self, letter: str) -> bool:
        taken = self._text.startswith(letter, self._at)
        self._at += taken
        return taken


def _letter(written: str) -> Step:
    fits = functools.cache(re.compile(written).fullmatch)
    return lambda name, places: {place + 1 for place in places if place < len(name) and fits(name[place])}


def _bounds(found: re.Match[str]) -> tuple[int, int | None]:
    """The fewest and the most; None = any number."""
    if found[0] in "*+?":
        return int(found[0] == "+"), 1 if found[0] == "?" else None
    fewest = int(found[1])
    return fewest, (int(found[3]) if found[3] else None) if found[2] else fewest


def _repeated(step: Step, fewest: int, most: int | None) -> Step:
    def repeat(name: str, places: Set[int]) -> Set[int]:
        for _ in range(fewest):
            places = step(name, places)
        reached, latest, left = set(places), places, most
        while latest and (left is None or left > fewest):
            latest = step(name, latest) - reached
            reached |= latest
            left = None if left is None else left - 1
        return reached

    return repeat
