"""What a few attention heads are told to look at while copying is learned.

A model of this size finds out by itself only in very many steps that a name can be copied: one head has to see the
token before, another the token after an earlier occurrence of this one. Both are told so, by a loss on where they look;
a hundred steps do.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import torch

from demo import names

PREVIOUS, BEFORE, NEXT, FIRST = (1, 0), (1, 1), ((2, 0), (2, 2)), (3, 0)
"""(layer, head) that looks at the token before; the one that looks at the token before that one, so that of several
places with a like token the right one is found; those that look at what followed earlier; the one that looks at the
first token of a value that is to be copied."""
LENGTH, ROWS, SHORTEST, LONGEST = 36, 24, 3, 17
"""Tokens of a row, rows of a batch, and how much of a row is repeated: at another place and distance in each row, or
the distance would be learned."""
IGNORED = -100


class Copying:
    """Batches of names that are repeated, and the losses on where heads look."""

    def __init__(self, tokenizer: Any, seed: int) -> None:
        self._rng = Random(seed)
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._plain = list(range(len(vocabulary)))
        """Token -> the same without the space before it, where there is one: names follow a space, values a quote."""
        for text, token in vocabulary.items():
            self._plain[token] = vocabulary.get(text[1:], token) if text.startswith("Ġ") else token
        self._quote = vocabulary['Ġ"']
        encode = tokenizer.encode
        made = (names.sentence(self._rng) if number % 5 == 0 else names.place(self._rng) for number in range(12000))
        self._pool = [token for text in made for token in encode(f" {text}", add_special_tokens=False)]

    def loss(self, model: Any, weight: float) -> torch.Tensor:
        """Of predicting the second half of repetitions; `weight` is that of where heads look."""
        rows, places = zip(*(self._row() for _ in range(ROWS)), strict=True)
        ids = torch.tensor(rows)
        at = torch.tensor([(row, here, there) for row, pairs in enumerate(places) for here, there in pairs]).T
        out = model.model(ids, output_attentions=True)
        words = torch.nn.functional.cross_entropy(
            model.lm_head(out.last_hidden_state[at[0], at[1]]).float(), ids[at[0], at[1] + 1]
        )
        later = torch.arange(1, LENGTH)
        before = torch.stack([torch.zeros_like(later), later, later - 1])
        every = torch.cat([before + torch.tensor([[row], [0], [0]]) for row in range(ROWS)], dim=1)
        told = _looks(out.attentions, PREVIOUS, every) * 0.5
        told = told + _looks(out.attentions, BEFORE, (every - torch.tensor([[0], [0], [1]])).clamp(min=0)) * 0.5
        return words + told + weight * sum(_looks(out.attentions, head, at) for head in NEXT)

    def told(self, attentions: Any, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The same of rows of conversations: where what an answer copies stands."""
        pairs = [self.sources(row, target) for row, target in zip(ids.tolist(), targets.tolist(), strict=True)]
        loss = torch.zeros(())
        for heads, which in ((NEXT, 0), ((FIRST,), 1)):
            found = [(row, here, there) for row, both in enumerate(pairs) for here, there in both[which]]
            if found:
                loss = loss + sum(_looks(attentions, head, torch.tensor(found).T) for head in heads)
        return loss

    def sources(
        self, ids: Sequence[int], targets: Sequence[int]
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(here, there) where the token after `here` is learned and stands at `there` already: after a token like the
        one at `here`; or, where nothing but its being a value tells (a quote is at `here`), anywhere. Of several the
        one from where most goes on alike, and of those the last."""
        plain = [self._plain[token] for token in ids]
        places: dict[int, list[int]] = {}
        follows, begins = [], []
        for here in range(len(plain) - 1):
            places.setdefault(plain[here], []).append(here)
            if targets[here + 1] == IGNORED:
                continue
            after = [place + 1 for place in places[plain[here]][:-1] if plain[place + 1] == plain[here + 1]]
            if after:
                follows.append((here, _longest(plain, here, after)))
            elif ids[here] == self._quote and plain[here + 1] in places:
                begins.append((here, _longest(plain, here, places[plain[here + 1]])))
        return follows, begins

    def _row(self) -> tuple[list[int], list[tuple[int, int]]]:
        start = self._rng.randrange(len(self._pool) - LENGTH)
        row = self._pool[start : start + LENGTH]
        size = self._rng.randint(SHORTEST, LONGEST)
        begin = self._rng.randint(0, LENGTH - 2 * size)
        again, how = row[begin : begin + size], self._rng.random()
        if how < 0.3:
            again[0] = self._plain[again[0]]
        elif how < 0.5:
            again = [self._plain[token] for token in again]
        row[begin + size : begin + 2 * size] = again
        return row, [(here, here - size + 1) for here in range(begin + size, begin + 2 * size - 1)]


def _longest(ids: Sequence[int], here: int, places: Sequence[int]) -> int:
    """The place from where most tokens are those that come after `here`; the last of several."""

    def alike(place: int) -> int:
        count = 0
        while place + count <= here and here + 1 + count < len(ids) and ids[place + count] == ids[here + 1 + count]:
            count += 1
        return count

    return max(reversed(places), key=alike)


def _looks(attentions: Any, head: tuple[int, int], at: torch.Tensor) -> torch.Tensor:
    """How unlikely a head looks from `at[1]` of row `at[0]` to `at[2]`."""
    layer, number = head
    return -(attentions[layer][at[0], number, at[1], at[2]].float() + 1e-6).log().mean()
