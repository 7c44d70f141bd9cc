"""What other parameters of our policy would cost: many sets of them on one trace, and the cheapest chosen afterwards.

`python -m bench.scaling.family SHAPE:SEED|FILE --tries 200`. Nobody can choose so; what is left between that and who
knows all arrivals is what knowing them is worth, and no parameter brings it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import llmservice_scaling.demand
import llmservice_scaling.rules
import llmservice_scaling.state
from bench.scaling.ours import Ours
from bench.scaling.published import TIMES
from bench.scaling.shapes import SHAPES
from bench.scaling.simulate import Result, World, simulate
from bench.scaling.trace import Trace, read
from llmservice_scaling.rules import Rules

CONSTANTS: dict[tuple[ModuleType, str], tuple[float, ...]] = {
    (llmservice_scaling.demand, "LOAD"): (0.6, 0.75, 0.9, 1.1, 1.4, 2.0),
    (llmservice_scaling.demand, "CATCH_UP"): (2.0, 6.0),
    (llmservice_scaling.state, "STEP_SHARE"): (0.05, 0.1, 0.2, 0.34),
    (llmservice_scaling.rules, "STEPS"): (1, 2, 3, 5, 8),
    (llmservice_scaling.rules, "DRAIN_SECONDS"): (10.0, 30.0, 90.0),
    (llmservice_scaling.state, "RECENT_SECONDS"): (5.0, 10.0, 15.0, 30.0),
}
WAITS, WINDOWS, MOST = (1.0, 2.0, 4.0, 8.0, 16.0), (100.0, 300.0, 450.0, 600.0), (10, 12, 14, 16)
"""Of the rules: seconds to a first token, scaleDownSeconds, the most replicas."""


@contextmanager
def constants(drawn: dict[tuple[ModuleType, str], float]) -> Iterator[None]:
    """The policy with others than its own, for a while."""
    before = {(module, name): getattr(module, name) for module, name in drawn}
    try:
        for (module, name), value in drawn.items():
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)


def tried(trace: Trace, world: World, tries: int, seed: int = 0) -> Iterator[tuple[Result, dict[str, Any]]]:
    """Sets of parameters drawn at random, and what each would have done."""
    rng = random.Random(seed)
    for _ in range(tries):
        drawn = {place: rng.choice(values) for place, values in CONSTANTS.items()}
        wait, window, most = rng.choice(WAITS), rng.choice(WINDOWS), rng.choice(MOST)
        rules = Rules(world.least, most, scale_down_seconds=window, first_token_seconds=wait)
        with constants(drawn):
            result = simulate(trace, Ours(world.machine, cold_start=world.cold_start, rules=rules), world)
        names = {name: value for (_, name), value in drawn.items()}
        yield result, {**names, "first token": wait, "window": window, "most": most}


def main() -> None:
    """Prints the cheapest that attains as much as ours."""
    parser = argparse.ArgumentParser(prog="bench.scaling.family", description=__doc__)
    parser.add_argument("trace", help="a shape with its seed (code:0), or a public trace")
    parser.add_argument("--tries", type=int, default=200)
    args = parser.parse_args()
    world = World()
    shape, _, seed = args.trace.partition(":")
    trace = SHAPES[shape](int(seed)) if seed else _public(Path(args.trace))
    ours = simulate(trace, Ours(world.machine), world)
    found = [one for one in tried(trace, world, args.tries) if one[0].attained >= ours.attained]
    print(f"{trace.name}: ours attains {ours.attained:.1%} for {ours.gpu_hours:.2f} GPU-hours")
    for result, names in sorted(found, key=lambda one: one[0].gpu_hours)[:3]:
        print(f"{result.attained:.1%} for {result.gpu_hours:.2f}: {names}")


def _public(path: Path) -> Trace:
    trace = read(path)
    return trace.times_over(TIMES) if trace.name.startswith("azure") else trace


if __name__ == "__main__":
    main()
