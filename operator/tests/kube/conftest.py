from collections.abc import AsyncIterator

import pytest
from fake_api import FakeApi, fake_api  # type: ignore[import-not-found]


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as server:
        yield server
