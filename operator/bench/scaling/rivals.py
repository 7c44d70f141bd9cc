"""How others decide, from their documentation and sources, at their published defaults."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

from bench.scaling.policies import Past, Policy, Static

TOLERANCE = 0.1


class Window:
    """The highest of the last seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._wanted: list[tuple[float, int]] = []

    def __call__(self, now: float, wanted: int) -> int:
        self._wanted = [(at, high) for at, high in self._wanted if at > now - self._seconds]
        self._wanted.append((now, wanted))
        return max(high for _, high in self._wanted)


class Hpa:
    """Kubernetes' HorizontalPodAutoscaler; `wanted` None = within the tolerance. KEDA feeds one from 1 replica on."""

    period = 15.0

    def __init__(self, wanted: Callable[[Past], int | None], down_seconds: float = 300.0) -> None:
        self._wanted = wanted
        self._window = Window(down_seconds)

    def __call__(self, past: Past, current: int, now: float) -> int:
        found = self._wanted(past)
        wanted = current if found is None else found
        highest = self._window(now, wanted)
        return highest if wanted < current else min(wanted, max(2 * current, current + 4))


class KubeAi:
    """The mean of 10 minutes of requests in flight; down after so many looks that agree."""

    period = 10.0

    def __init__(self, target: float, seconds: int = 600, down_seconds: float = 30.0) -> None:
        self._target, self._seconds = target, seconds
        self._needed = math.ceil(down_seconds / self.period)
        self._agreed = 0

    def __call__(self, past: Past, current: int, now: float) -> int:
        looks = past[-self._seconds :][:: int(self.period)]
        wanted = math.ceil(sum(one.in_flight for one in looks) / (self._seconds / self.period) / self._target)
        if wanted >= current:
            self._agreed = 0
        elif self._agreed < self._needed:
            self._agreed += 1
            return current
        return wanted


class Kpa:
    """Knative: the mean of 60 s; while that of 6 s asks for twice what is ready, that one, and never down."""

    period = 2.0
    STABLE = 60
    PANIC = 6

    def __init__(self, target: float, down_seconds: float = 0.0) -> None:
        self._target = target
        self._window = Window(down_seconds) if down_seconds else None
        self._panic_at: float | None = None
        self._panic_most = 0

    def __call__(self, past: Past, current: int, now: float) -> int:
        ready = max(1, past[-1].ready)
        stable = fmean(one.in_flight for one in past[-self.STABLE :]) / self._target
        panic = fmean(one.in_flight for one in past[-self.PANIC :]) / self._target
        wanted = max(math.ceil(stable), ready // 2)
        if math.ceil(panic) / ready >= 2:
            self._panic_at = now
        elif self._panic_at is not None and self._panic_at + self.STABLE < now:
            self._panic_at, self._panic_most = None, 0
        if self._panic_at is not None:
            self._panic_most = max(self._panic_most, wanted, math.ceil(panic), ready // 2)
            wanted = self._panic_most
        return self._window(now, wanted) if self._window else wanted


class Wva:
    """llm-d's Workload Variant Autoscaler: one more when little is to spare, none while one starts."""

    period = 30.0
    KV, QUEUE = 0.8, 5.0
    SPARE_KV, SPARE_QUEUE = 0.1, 3.0

    def __init__(self, down_seconds: float = 120.0) -> None:
        self._window = Window(down_seconds)

    def __call__(self, past: Past, current: int, now: float) -> int:
        last = past[-1]
        queue, wanted = last.waiting / max(1, last.ready), current
        without = current / (current - 1) if current > 1 else math.inf
        if (self.KV - last.kv < self.SPARE_KV or self.QUEUE - queue < self.SPARE_QUEUE) and current <= last.ready:
            wanted = current + 1
        elif (
            current > 1
            and last.kv * without < self.KV - self.SPARE_KV
            and queue * without < self.QUEUE - self.SPARE_QUEUE
        ):
            wanted = current - 1
        highest = self._window(now, wanted)
        return highest if wanted < current else wanted


def _per_replica(read: Callable[[Past], float], target: float) -> Callable[[Past], int | None]:
    """A mean over replicas against a target, with HPA's tolerance."""

    def wanted(past: Past) -> int | None:
        ratio = read(past) / target
        return None if abs(ratio - 1) <= TOLERANCE else math.ceil(ratio * max(1, past[-1].ready))

    return wanted


RIVALS: dict[str, Callable[[], Policy]] = {
    "HPA, 16 in flight": lambda: Hpa(lambda past: math.ceil(past[-1].in_flight / 16)),
    "HPA, GPU busy 0.8": lambda: Hpa(_per_replica(lambda past: past[-1].busy, 0.8)),
    "HPA, KV usage 0.5": lambda: Hpa(_per_replica(lambda past: past[-1].kv, 0.5)),
    "KEDA, 5 waiting": lambda: Hpa(lambda past: math.ceil(past[-1].waiting / 5)),
    "Knative KPA, target 16": lambda: Kpa(16),
    "Knative KPA, target 16, 300 s down-delay": lambda: Kpa(16, 300.0),
    "KubeAI, target 16": lambda: KubeAi(16),
    "KubeAI, target 100": lambda: KubeAi(100),
    "WVA, KV 0.8, queue 5": Wva,
}
"""Each makes a policy that has seen nothing."""

STATIC = "static, 16"


def static() -> Policy:
    """As many as there may be, always: what attains most."""
    return Static(16)
