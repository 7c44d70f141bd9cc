"""What a user asked for, and what a replica can do."""

from __future__ import annotations

from dataclasses import dataclass

from llmservice_scaling.schedule import WarmFloor

IN_FLIGHT = 0.6
"""Share of its places that a replica is wanted to have taken, at least: the others are for what comes by chance."""
CHANCE = 2.0
"""Standard deviations that chance is allowed: of many in flight the share that it adds is small."""
LOAD = 0.9
"""Share of its time that a replica is wanted to compute."""
DRAIN_SHARE, DRAIN_SECONDS = 1 / 3, 30.0
"""What waits is done, beside what comes, in this share of the time that a replica takes to start, or in at most these
seconds: what is done sooner than another starts needs none."""
BESIDE_ANSWERS = 0.7
"""Share of its speed that a prompt has while answers are computed beside it."""
STEPS = 3
"""Replicas go in so many steps per scaleDownSeconds ..."""
STEP_SHARE = 0.1
"""... this share of them at a time, one at least: a burst minutes later finds most of what the last one wanted."""
KV_CEILING = 0.9
"""Share of the KV cache above which answers would begin to push each other out."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user may set, with the defaults."""

    min_replicas: int = 1
    """0 = none runs while nobody asks."""
    max_replicas: int = 1
    idle_seconds: float = 600.0
    """Without any request before the last replica goes."""
    scale_down_seconds: float = 300.0
    """Replicas wanted at any time in this window stay; then they go, in steps."""
    first_token_seconds: float = 2.0
    """What comes is to have its first token within this time: half of it to wait, half to be computed."""
    in_flight: float | None = None
    """Requests per replica, instead of what the plan says."""
    floors: tuple[WarmFloor, ...] = ()

    @property
    def step_seconds(self) -> float:
        """From one step down to the next."""
        return self.scale_down_seconds / STEPS

    def drain_seconds(self, capacity: Capacity) -> float:
        """In which what waits is to be done."""
        load = capacity.load_seconds
        return DRAIN_SECONDS if load is None else min(max(load * DRAIN_SHARE, self.first_token_seconds), DRAIN_SECONDS)

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas:
            raise ValueError(f"0 <= minReplicas ({self.min_replicas}) <= maxReplicas ({self.max_replicas}) must hold")
        for name in ("idle_seconds", "scale_down_seconds", "first_token_seconds", "in_flight"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be more than 0, not {value}")


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of one replica: places from its plan, speed from what was measured."""

    max_sequences: int
    kv_tokens: int
    tokens_per_request: float | None = None
    """Prompt and answer, the mean of late; None = nobody asked yet."""
    prompt_tokens_per_second: float | None = None
    """When it does nothing else; None = not measured yet."""
    answer_tokens_per_second: float | None = None
    """Of all answers together with every place taken, when it does nothing else; None = not measured yet."""
    load_seconds: float | None = None
    """From its engine's start until it serves; None = not measured yet."""
    answer_tokens: float | None = None
    """Of one answer, the mean of late; None = nobody was answered yet."""

    @staticmethod
    def planned(
        max_sequences: int,
        kv_tokens: int,
        in_flight_tokens: float,
        in_flight: float,
        prompts: float | None = None,
        answers: float | None = None,
        load_seconds: float | None = None,
        answer_tokens: float | None = None,
    ) -> Capacity:
        """As the plan has it, with requests of the size of those in flight, and the speeds that a replica measured;
        what was not measured asks for nothing."""
        each = in_flight_tokens / in_flight if in_flight > 0 else 0.0
        size = each if kv_tokens and each > 0 else None
        measured = (prompts or None, answers or None, load_seconds or None, answer_tokens or None)
        return Capacity(max_sequences, kv_tokens, size, *measured)

    @property
    def places(self) -> float:
        """Requests that run at a time: sequences, or fewer where their tokens fill the KV cache first. At least 1."""
        by_memory = self.kv_tokens / self.tokens_per_request if self.tokens_per_request else self.max_sequences
        return max(1.0, min(float(self.max_sequences), by_memory))
