"""Time of choosing a token from logits, per setting: `python -m bench.sampling`. Needs no model, takes seconds.

Two kinds of rows of 32,000 logits: flat (normal, deviation 2: worse than any model) and peaked (deviation 4, and a
handful of likely tokens, like a language model's).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from llmservice_runtime.generation.arrays import Floats
from llmservice_runtime.generation.draw import Desk
from llmservice_runtime.generation.sampler import Sampler
from llmservice_runtime.protocol.engine import SamplingParams

VOCAB = 32_000
ROWS = 16
ROUNDS = 30
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature 1": {},
    "temperature 0.7": {"temperature": 0.7},
    "top_p 0.95": {"temperature": 0.7, "top_p": 0.95},
    "top_k 40": {"temperature": 0.7, "top_k": 40},
    "top_k 40, top_p 0.95": {"temperature": 0.7, "top_k": 40, "top_p": 0.95},
    "min_p 0.05": {"min_p": 0.05},
    "presence, frequency": {"presence_penalty": 0.5, "frequency_penalty": 0.5},
    "repetition 1.1": {"repetition_penalty": 1.1},
    "logit_bias": {"logit_bias": {1: 1.0, 2: -100.0}},
    "grammar, wide": {},
    "grammar, narrow": {},
}


def rows() -> dict[str, Floats]:
    """(ROWS, VOCAB) logits of either kind."""
    random = np.random.default_rng(0)
    flat = (2 * random.standard_normal((ROWS, VOCAB))).astype(np.float32)
    peaked = (4 * random.standard_normal((ROWS, VOCAB))).astype(np.float32)
    peaked[:, :20] += np.linspace(20, 10, 20, dtype=np.float32)
    return {"flat": flat, "peaked": peaked}


def barrier(name: str) -> Floats | None:
    """A grammar's mask: nine of ten tokens, or ten of all."""
    if not name.startswith("grammar"):
        return None
    random = np.random.default_rng(1)
    share = 0.9 if name.endswith("wide") else 10 / VOCAB
    return np.where(random.random(VOCAB) < share, 0, -np.inf).astype(np.float32)


def measure(name: str, logits: Floats) -> float:
    """Microseconds per token, the best of several rounds."""
    params = SamplingParams(seed=1, **SETTINGS[name])
    prompt = np.arange(0, 3000, 3, dtype=np.int32)
    samplers = [Sampler(params, index, prompt, VOCAB, [2]) for index in range(ROWS)]
    desk, mask = Desk(VOCAB), barrier(name)
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for sampler, row in zip(samplers, logits, strict=True):
            sampler.accept(sampler.choose(row, mask, desk))
        best = min(best, time.perf_counter() - start)
    return best / ROWS * 1e6


def main() -> None:
    """Print the table."""
    kinds = rows()
    print(f"{'microseconds per token':24}" + "".join(f"{kind:>10}" for kind in kinds))
    for name in SETTINGS:
        print(f"{name:24}" + "".join(f"{measure(name, logits):10.1f}" for logits in kinds.values()))


if __name__ == "__main__":
    main()
