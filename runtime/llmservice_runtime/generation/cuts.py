"""Where a long text may be cut, so that its parts tokenize to what the whole does. Pure.

llama.cpp looks for every special token in what all the others left over, so a text of n special tokens costs it n
squared. Behind a special token the rest begins anew: there a text can be cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

PART_BYTES = 8_192
"""A part ends at the first place behind so many bytes."""
_BLANK = re.compile(rb"[ \t\n\v\f\r]*")
_Trie = dict[int, "_Trie"]
_END = -1


class Cuts:
    """Cuts behind `specials`, the texts of tokens that are found before all others, longest first.

    `blank_after` are those that take the white space behind them away; `strips` says whether any takes some away.
    """

    def __init__(self, specials: Iterable[bytes], blank_after: Iterable[bytes] = (), *, strips: bool = False) -> None:
        texts = {text for text in specials if text}
        self._inner = frozenset(pair for text in texts for pair in pairwise(text))
        """Neighbouring bytes within a special token. Between any others no special token goes on."""
        self._runs = {} if strips else _runs(texts)
        self._pattern = re.compile(_alternatives(_trie(texts))) if texts else None
        self._blank_after = frozenset(blank_after)
        self.strips = strips

    def parts(self, text: bytes, least: int = PART_BYTES) -> Iterator[bytes]:
        """`text` in parts of at least so many bytes, where it can be cut; joined they are the text."""
        start = 0
        while len(text) - start > least and (end := self._next(text, start, start + least)) is not None:
            yield text[start:end]
            start = end
        yield text[start:]

    def _next(self, text: bytes, start: int, least: int) -> int | None:
        """The first cut at `least` or behind it; the one before is at `start`.

        A token counts when no other one reaches into it or out of it: then it is found as it stands. Of a run of one
        character its longest token is taken again and again, from where the run begins.
        """
        if self._pattern is None:
            return None
        for match in self._pattern.finditer(text, least):
            begin, end = match.span()
            if self._apart(text, begin) and self._apart(text, end):
                blank = _BLANK.match(text, end) if match.group() in self._blank_after else None
                return blank.end() if blank is not None else end
            size = self._runs.get(text[begin])
            if size is not None and size == end - begin:
                first = start + len(text[start:begin].rstrip(text[begin : begin + 1]))
                at = begin + -(begin - first) % size
                whole = text[first:at] == text[begin : begin + 1] * (at - first)
                if at > start and whole and (first == start or self._apart(text, first)):
                    return at
        return None

    def _apart(self, text: bytes, at: int) -> bool:
        return not 0 < at < len(text) or (text[at - 1], text[at]) not in self._inner


def _runs(texts: Iterable[bytes]) -> dict[int, int]:
    """Characters that tokens repeat, and how often at most; none that stands twice in a row within any other token."""
    runs: dict[int, int] = {}
    mixed: set[int] = set()
    for text in texts:
        if len(text) > 1 and len(set(text)) == 1:
            runs[text[0]] = max(runs.get(text[0], 0), len(text))
        else:
            mixed |= {a for a, b in pairwise(text) if a == b}
    return {char: size for char, size in runs.items() if char not in mixed}


def _trie(texts: Iterable[bytes]) -> _Trie:
    root: _Trie = {}
    for text in texts:
        node = root
        for byte in text:
            node = node.setdefault(byte, {})
        node[_END] = {}
    return root


def _alternatives(trie: _Trie) -> bytes:
    """A pattern for the longest of the texts at a place, whose cost does not grow with their number."""
    branches = [re.escape(bytes([byte])) + _alternatives(rest) for byte, rest in sorted(trie.items()) if byte != _END]
    if not branches:
        return b""
    pattern = branches[0] if len(branches) == 1 and _END not in trie else b"(?:" + b"|".join(branches) + b")"
    return pattern + b"?" if _END in trie else pattern
