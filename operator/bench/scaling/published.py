"""The table that the simulator has to give before it may compare: the shares with a first token within 2 s, in percent.

Of Azure's public traces of 2023 (CC-BY 4.0), three times their rate; a cold start of 90 s; made with another simulator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from bench.scaling.rivals import RIVALS, STATIC, static
from bench.scaling.simulate import Result, World
from bench.scaling.stepped import simulate_in_steps
from bench.scaling.trace import Trace

PUBLISHED = {
    "azure-2023-code": {
        STATIC: 95.1,
        "HPA, 16 in flight": 65.7,
        "HPA, GPU busy 0.8": 61.3,
        "HPA, KV usage 0.5": 0.1,
        "KEDA, 5 waiting": 64.5,
        "Knative KPA, target 16": 50.3,
        "Knative KPA, target 16, 300 s down-delay": 72.4,
        "KubeAI, target 16": 53.4,
        "KubeAI, target 100": 24.9,
        "WVA, KV 0.8, queue 5": 28.6,
    },
    "azure-2023-conv": {
        STATIC: 100.0,
        "HPA, 16 in flight": 98.2,
        "HPA, GPU busy 0.8": 89.9,
        "HPA, KV usage 0.5": 82.1,
        "KEDA, 5 waiting": 82.1,
        "Knative KPA, target 16": 98.1,
        "Knative KPA, target 16, 300 s down-delay": 98.1,
        "KubeAI, target 16": 94.8,
        "KubeAI, target 100": 56.7,
        "WVA, KV 0.8, queue 5": 76.7,
    },
}
TIMES = 3
WITHIN = 2.0
"""Points."""


def reproduce(trace: Trace) -> Iterator[tuple[str, float, Result]]:
    """(policy, published, found) of a trace that has a column in the table; none of another."""
    faster, world = trace.times_over(TIMES), World()
    for name, published in PUBLISHED.get(trace.name, {}).items():
        if name == STATIC:
            yield name, published, simulate_in_steps(faster, static(), dataclasses.replace(world, begin=world.most))
        else:
            yield name, published, simulate_in_steps(faster, RIVALS[name](), world)
