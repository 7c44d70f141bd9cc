"""A queue in which nobody stands behind another client's many requests: owners of keys take turns, and in each one's
turn those who share the key do. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

Client = tuple[str, str]
"""Owner, and whom of the owner's it is for. What a request says of the second one changes nothing for other owners."""


class FairQueue(Generic[T]):
    """Items of each client in their order; clients in the order of their turns."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, deque[T]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        """Everything, client by client."""
        for items in self._clients.values():
            yield from items

    def push(self, client: str, item: T, *, first: bool = False) -> None:
        """Behind the client's others; `first`: before them, for what lost its turn by no fault of its own."""
        items = self._clients.setdefault(client, deque())
        items.appendleft(item) if first else items.append(item)
        self._length += 1

    def take(self, wanted: Callable[[T], bool]) -> T | None:
        """Who is next: of the clients, in the order of their turns, the first whose oldest item is `wanted`.

        It leaves, and the client's turn comes again after everybody else's.
        """
        for client, items in self._clients.items():
            if wanted(items[0]):
                item = items.popleft()
                self._length -= 1
                if items:
                    self._clients.move_to_end(client)
                else:
                    del self._clients[client]
                return item
        return None

    def remove(self, client: str, item: T) -> None:
        """It does not want its turn any more. ValueError when it is not there."""
        items = self._clients.get(client)
        if items is None:
            raise ValueError(item)
        items.remove(item)
        self._length -= 1
        if not items:
            del self._clients[client]


class OwnersQueue(Generic[T]):
    """Owners in the order of their turns; of each the clients in the order of theirs."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, FairQueue[T]] = OrderedDict()
        self.length = 0
        """Of all."""

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[T]:
        """Everything, owner by owner."""
        for queue in self._owners.values():
            yield from queue

    def push(self, client: Client, item: T, *, first: bool = False) -> None:
        """As FairQueue."""
        owner, name = client
        self._owners.setdefault(owner, FairQueue()).push(name, item, first=first)
        self.length += 1

    def take(self, wanted: Callable[[T], bool]) -> T | None:
        """Who is next: of the owners, in the order of their turns, the first of whom somebody is `wanted`."""
        for owner, queue in self._owners.items():
            if (item := queue.take(wanted)) is not None:
                self.length -= 1
                if len(queue):
                    self._owners.move_to_end(owner)
                else:
                    del self._owners[owner]
                return item
        return None

    def remove(self, client: Client, item: T) -> None:
        """It does not want its turn any more. ValueError when it is not there."""
        owner, name = client
        if (queue := self._owners.get(owner)) is None:
            raise ValueError(item)
        queue.remove(name, item)
        self.length -= 1
        if not len(queue):
            del self._owners[owner]
