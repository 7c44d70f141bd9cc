"""A reader of engine.args that takes a value as it stands, whatever it is."""

from __future__ import annotations

import argparse
from collections.abc import Iterable


class StrictParser(argparse.ArgumentParser):
    """argparse takes `--` for a mark, also as a value: of `--seed=--` it would leave an empty list."""

    def read(self, words: Iterable[str], found: argparse.Namespace | None = None) -> argparse.Namespace:
        """What they say; what is refused goes to `error`."""
        words = list(words)
        for word in words:
            name, _, value = word.partition("=")
            if value == "--":
                self.error(f"argument {name}: '--' is no value")
        return self.parse_args(words, found)
