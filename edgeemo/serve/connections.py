"""TCP connections with a limit: uvicorn's protocols, and how one is ended that does not listen."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

log = logging.getLogger(__name__)

CONNECTION = "edgeemo.connection"
"""Key of a WebSocket's scope, and of the state in an HTTP request's: what can be told to `cut_off`."""
_FIRST_REQUEST_S = 10.0
_WAITING_BYTES = 32 * 1024
"""Bytes that may wait in this process for a client that does not read; beyond it sending waits."""


def limited_http(most: int) -> type[asyncio.Protocol]:
    """Returns the HTTP protocol for a server with at most so many connections at once.

    Beyond that a connection is closed before it costs more than itself, so that files are left for the
    session. One that sends no whole request for `_FIRST_REQUEST_S` is closed too.
    """

    class LimitedHTTP(H11Protocol):
        _overdue: asyncio.TimerHandle | None = None
        _turned_away = False

        def connection_made(self, transport: Any) -> None:
            if len(self.connections) >= most:
                self._turned_away = True
                transport.abort()
                return
            super().connection_made(transport)
            self.app_state = {**self.app_state, CONNECTION: self}
            self._overdue = self.loop.call_later(_FIRST_REQUEST_S, self._end_silence)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._overdue is not None:
                self._overdue.cancel()
            if not self._turned_away:
                super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if not self._turned_away:
                super().data_received(data)

        def _end_silence(self) -> None:
            if not self._has_asked:
                self.transport.abort()

        def cut_off(self) -> None:
            self.transport.abort()

        @property
        def _has_asked(self) -> bool:
            return getattr(self, "scope", None) is not None

    return LimitedHTTP


class LiveSocket(WebSocketsSansIOProtocol):
    """A WebSocket that can be cut off, and for which little waits in this process.

    Attributes:
        was_silent: whether it was cut off as it answered no ping.
    """

    was_silent = False

    def connection_made(self, transport: Any) -> None:
        """Limits what waits for a client."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_WAITING_BYTES)

    def handle_connect(self, event: Any) -> None:
        """Lets the application cut the client off."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:
            scope[CONNECTION] = self

    def cut_off(self) -> None:
        """Ends the connection at once, whatever waits to be sent."""
        self.transport.abort()

    async def send(self, message: Any) -> None:
        """Takes an answer at the door for the handshake's end, which it is."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def keepalive_timeout(self) -> None:
        """Cuts off a client that answers no ping: what waits for it would keep the connection open."""
        self.was_silent = True
        super().keepalive_timeout()
        self.cut_off()
