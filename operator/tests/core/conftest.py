"""Fixtures of the core's tests."""

from __future__ import annotations

import pytest
from core_world import World  # type: ignore[import-not-found]


@pytest.fixture
def world() -> World:
    """A cluster with one service of the demo model, to which nothing was done yet."""
    return World()
