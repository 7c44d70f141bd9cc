"""Wrong keys by the address they come from: whoever shows one after the other is answered late.

Nobody is refused for what another one behind the same proxy did: its answers come late as well, and no later. Those to
right keys too, or how soon one comes would tell which it is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from llmservice_runtime.wire.errors import ApiError, retry_headers

BURST = 10
"""So many wrong keys are a person who mistypes."""
FORGET_SECONDS = 6.0
"""One of them is forgotten after so long."""
WAIT_SECONDS = 1
MOST_WAITING = 20
"""Of one address at a time; that bounds how many are tried, and what waiting takes."""
MOST_ADDRESSES = 4096
"""Of more, those go that were heard of first."""
SAME = 16
"""A page with an old key shows it again and again: what was shown lately is no new attempt."""


@dataclass(slots=True)
class _Heard:
    count: float = 0.0
    at: float = 0.0
    waiting: int = 0
    shown: deque[int] = field(default_factory=lambda: deque(maxlen=SAME))


class Guesses:
    """For one event loop. `clock` gives monotonic seconds."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._heard: OrderedDict[str, _Heard] = OrderedDict()

    async def turn(self, address: str) -> None:
        """Wait until a key from there may be looked at: not at all, or a moment. ApiError 429 where too many wait."""
        heard = self._heard.get(_block(address))
        if heard is None or self._count(heard) <= BURST:
            return
        if heard.waiting >= MOST_WAITING:
            message = "Too many wrong API keys come from this address; retry in a second."
            raise ApiError(429, message, code="too_many_wrong_keys", headers=retry_headers(WAIT_SECONDS))
        heard.waiting += 1
        try:
            await self._sleep(WAIT_SECONDS)
        finally:
            heard.waiting -= 1

    def wrong(self, address: str, shown: str) -> bool:
        """A key that is nobody's came from there; whether it is another one than lately."""
        block, mark = _block(address), hash(shown)  # which is another one in each process
        heard = self._heard.get(block) or _Heard()
        self._heard[block] = heard
        self._heard.move_to_end(block)
        if len(self._heard) > MOST_ADDRESSES:
            self._heard.popitem(last=False)
        if mark in heard.shown:
            return False
        heard.shown.append(mark)
        heard.count, heard.at = self._count(heard) + 1, self._clock()
        return True

    def _count(self, heard: _Heard) -> float:
        return max(0.0, heard.count - (self._clock() - heard.at) / FORGET_SECONDS)


def _block(address: str) -> str:
    """The address; of IPv6 the network, in which one machine has as many as it likes."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
