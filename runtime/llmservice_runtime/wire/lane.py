"""A client's connection that answers plain requests by itself."""

from __future__ import annotations

import asyncio
import logging
import select
from typing import Any, cast

from aiohttp import web
from aiohttp.tcp_helpers import tcp_keepalive

from llmservice_runtime.wire.connection import ClientsServer, Connection
from llmservice_runtime.wire.plain import MOST, Answer, Plain, Streamed, Take, Verdict, read_plain, whole_answer

TOGETHER_SECONDS = 1.0
"""A request is plain whose bytes come within so long."""
LEFT_SECONDS = 0.5
"""Between two looks for the end of a client of which nothing is read for a while."""
_ENDS = getattr(select, "POLLRDHUP", 0)
"""Also told while there are bytes that nobody has read; where it is not known, only behind them."""

log = logging.getLogger(__name__)


class Lane(Connection):
    """For plain requests no parser, task or resolver of aiohttp's is needed. With the first one that is not plain, or
    that `take` does not know, the connection becomes aiohttp's, with all that came and for good."""

    __slots__ = ("_came", "_late", "_own", "_take", "_unread")

    def __init__(self, manager: ClientsServer, take: Take, **options: Any) -> None:
        super().__init__(manager, **options)
        self._take = take
        self._own = True
        """It is not aiohttp's yet."""
        self._came = b""
        self._late: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        """Looks for its end while nothing more is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As aiohttp's, without its task. (Event loops switch Nagle's algorithm off by themselves.)"""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods alone
        if self._tcp_keepalive:
            tcp_keepalive(self.transport)
        assert self._manager is not None
        self._manager.connection_made(self, self.transport)
        self._next_keepalive_close_time = until = self._loop.time() + self._keepalive_timeout
        self._keepalive_handle = self._loop.call_at(until, self._process_keepalive)

    def data_received(self, data: bytes) -> None:
        if not self._own:
            super().data_received(data)
        elif not (self._close or self._force_close):
            self._came += data
            if self._task_handler is None:
                self._look()
            if self._own and len(self._came) > MOST and self.transport is not None:
                self.transport.pause_reading()  # until what came before is answered
                self._unread = self._unread or self._loop.call_later(LEFT_SECONDS, self._look_for_end)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone: nothing of it is waited for."""
        self._read_on()
        super().connection_lost(exc)

    def close(self) -> None:
        """At once while nothing is asked, else after the answer."""
        super().close()
        if self._own and self._task_handler is None and self.transport is not None:
            self.transport.close()

    def _look_for_end(self) -> None:
        """The client's: its request is nobody's then, whatever came behind that."""
        self._read_on()
        if self.transport is not None and has_ended(self.transport):
            self.transport.abort()
        elif self.transport is not None:
            self._unread = self._loop.call_later(LEFT_SECONDS, self._look_for_end)

    def _read_on(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _look(self) -> None:
        """Whether what came is a plain request."""
        found = read_plain(self._came)
        if found is Verdict.NEEDS_MORE:
            if self._late is None:
                self._late = self._loop.call_later(TOGETHER_SECONDS, self._hand_over)
            return
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if isinstance(found, Plain):
            found.protocol = self
            if (answer := self._take(found)) is not None:
                self._came, found.rest = found.rest, b""
                self._request_in_progress = True
                self._task_handler = self._loop.create_task(self._answered(found, answer))
                return
        self._hand_over()

    def _hand_over(self) -> None:
        if self._manager is None:  # it was lost meanwhile
            return
        self._own = False
        came, self._came = self._came, b""
        self._task_handler = self._loop.create_task(self.start())
        super().data_received(came)

    async def _answered(self, request: Plain, answer: Answer) -> None:
        try:
            response = await answer(request)
            if not isinstance(response, Streamed):
                self._send(request, response)
            if self._paused:
                await self._drain_helper()
        except ConnectionError as error:
            log.debug("a client hung up: %s", error)
            self.force_close()
        except Exception:
            log.exception("failed to answer %s %s", request.method, request.path)
            self.force_close()
        except BaseException:
            self.force_close()
            raise
        finally:
            self._request_in_progress = False
            if self._handler_waiter is not None and not self._handler_waiter.done():
                self._handler_waiter.set_result(None)
        self._next()

    def _send(self, request: Plain, response: web.StreamResponse) -> None:
        assert isinstance(response, web.Response)
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client left")
        if request.begun:  # two answers would be taken for one
            raise ConnectionResetError("a stream failed")
        self.transport.write(whole_answer(response, request.extra))

    def _next(self) -> None:
        """An answer is whole."""
        self._task_handler = None
        self._read_on()
        if self.transport is None:
            return
        if self._close:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._came:
            self.transport.resume_reading()
            self._look()

    def _process_keepalive(self) -> None:
        if not self._own:
            super()._process_keepalive()
            return
        until, now = self._next_keepalive_close_time, self._loop.time()
        if self._task_handler is None and now >= until:
            self.force_close()
        else:
            again = until if until > now else now + self._keepalive_timeout
            self._keepalive_handle = self._loop.call_at(again, self._process_keepalive)


def has_ended(transport: asyncio.Transport) -> bool:
    """Whether the other side has ended a connection of which nothing is read."""
    socket = transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(socket.fileno(), _ENDS)  # errors are told in any case
    return bool(poll.poll(0))
