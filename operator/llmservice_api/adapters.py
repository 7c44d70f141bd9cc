"""LoRA adapters of a service: what became of each."""

from __future__ import annotations

from enum import StrEnum


class AdapterState(StrEnum):
    """What is so of an adapter in all replicas together."""

    PENDING = "Pending"
    """It is being read, or no replica has begun with it."""
    LOADING = "Loading"
    """Replicas fetch or load it."""
    LOADED = "Loaded"
    """Ready replicas answer for it."""
    FAILED = "Failed"
    """No replica answers for it, and none will as things are."""
