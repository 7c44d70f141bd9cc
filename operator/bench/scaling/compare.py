"""Every policy on the same traces, and who beats whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.scaling import clairvoyant
from bench.scaling.ours import Ours
from bench.scaling.rivals import RIVALS, STATIC, static
from bench.scaling.simulate import Result, World, simulate
from bench.scaling.trace import Trace

OURS = "**ours**"
FLIPS = 15
"""Who changes direction more often starts and stops models for nothing and is not compared."""
TIE = 0.01
"""Attainments that are a point apart are equal."""


@dataclass(frozen=True, slots=True)
class Case:
    """One trace at one cold start. Of a mean over seeds the results are means."""

    shape: str
    cold_start: float
    results: dict[str, Result]
    free: Result | None = None
    """Who knows all arrivals, at our attainment; None = not searched, or there is none."""
    keeping: Result | None = None
    """The same, keeping what was wanted for scaleDownSeconds, as we do."""
    steady: Result | None = None
    """The best constant number of replicas, chosen afterwards."""
    at_equal: Result | None = None
    """Ours, on the trace that these three were searched on."""

    beaten_by: tuple[str, ...] = ()
    """Of a mean: the rivals that were better on the mean, or on a seed, with its number."""

    def better(self) -> list[str]:
        """Rivals that attain more and cost less."""
        ours = self.results[OURS]
        return [
            name
            for name, result in self.results.items()
            if result.flips <= FLIPS and result.attained > ours.attained + TIE and result.gpu_hours < ours.gpu_hours
        ]


def compare(shape: str, trace: Trace, world: World) -> Case:
    """All policies."""
    results = {STATIC: simulate(trace, static(), dataclasses.replace(world, begin=world.most))}
    results |= {name: simulate(trace, policy(), world) for name, policy in RIVALS.items()}
    results[OURS] = simulate(trace, _ours(world), world)
    return Case(shape, world.cold_start, results)


def _ours(world: World) -> Ours:
    return Ours(world.machine, world.least, world.most, world.cold_start)


def searched(case: Case, trace: Trace, world: World) -> Case:
    """With who knows all arrivals of `trace`, one of the case's; it takes longest by far."""
    ours = simulate(trace, _ours(world), world)
    free = clairvoyant.best(trace, world, ours.attained)
    keeping = clairvoyant.best(trace, world, ours.attained, keep=300.0)
    steady = clairvoyant.steady(trace, world, ours.attained)
    return dataclasses.replace(case, free=free, keeping=keeping, steady=steady, at_equal=ours)


def mean(cases: dict[int, Case]) -> Case:
    """Of one shape and cold start, by seed."""
    first = next(iter(cases.values()))
    results = {name: _mean([case.results[name] for case in cases.values()]) for name in first.results}
    whole = dataclasses.replace(first, results=results)
    of_seeds = [f"{name} on seed {seed}" for seed, case in cases.items() if len(cases) > 1 for name in case.better()]
    return dataclasses.replace(whole, beaten_by=(*whole.better(), *of_seeds))


def _mean(results: Sequence[Result]) -> Result:
    return Result(
        attained=fmean(result.attained for result in results),
        gpu_hours=fmean(result.gpu_hours for result in results),
        flips=round(fmean(result.flips for result in results)),
        peak=max(result.peak for result in results),
    )
