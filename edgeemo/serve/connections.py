"""TCP connections with a limit: uvicorn's protocols, and how one is ended that does not listen."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from edgeemo.serve.messages import json_text

log = logging.getLogger(__name__)

CONNECTION = "edgeemo.connection"
"""Key of a WebSocket's scope, and of the state in an HTTP request's: what can be told to `cut_off`."""
_REQUEST_S = 10.0
"""How long the head of a request may take to arrive."""
_UNREAD_S = 10.0
"""How long a client may leave an answer unread."""
_AFTER_END_S = 12.0
"""How long a live socket lasts whose application has ended: longer than uvicorn waits for a good-bye."""
_WAITING_BYTES = 32 * 1024
"""Bytes that may wait in this process for a client that does not read; beyond it sending waits."""


def limited_http(most: int) -> type[asyncio.Protocol]:
    """Returns the HTTP protocol for a server with at most so many connections at once.

    Beyond that a connection is closed before it costs more than itself, so that files are left for the
    session. One that does not bring its request to an end, the first or a later one, or that leaves an
    answer unread, is closed too: it would keep its place for ever.
    """

    class LimitedHTTP(H11Protocol):
        _overdue: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None
        _turned_away = False

        def connection_made(self, transport: Any) -> None:
            if len(self.connections) >= most:
                self._turned_away = True
                transport.abort()
                return
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # whatever waits for the client is known to wait
            self.app_state = {**self.app_state, CONNECTION: self}
            self._expect_request(_REQUEST_S)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_watching()
            if not self._turned_away:
                super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if not self._turned_away:
                super().data_received(data)

        def handle_websocket_upgrade(self, event: h11.Request) -> None:
            self._stop_watching()
            super().handle_websocket_upgrade(event)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._expect_request(self.timeout_keep_alive + _REQUEST_S)

        def send_400_response(self, msg: str) -> None:
            if self.cycle is not None:
                self.cycle.disconnected = True  # no other answer follows this one
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                super().send_400_response(msg)
            else:  # there was an answer already
                self.transport.close()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self.loop.call_later(_UNREAD_S, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._unread is not None:
                self._unread.cancel()

        def cut_off(self) -> None:
            self.transport.abort()

        def _expect_request(self, within_s: float) -> None:
            if self._overdue is not None:
                self._overdue.cancel()
            self._overdue = self.loop.call_later(within_s, self._end_silence)

        def _end_silence(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.abort()

        def _stop_watching(self) -> None:
            for timer in (self._overdue, self._unread):
                if timer is not None:
                    timer.cancel()

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

    def data_received(self, data: bytes) -> None:
        """Refuses a request that websockets cannot read: uvicorn would leave it without an answer."""
        super().data_received(data)
        if not self.handshake_initiated:  # the first piece holds the whole head
            self.handshake_initiated = self.handshake_complete = self.close_sent = True
            why = "the head of this request cannot be read: it has a line of more than 8 KB or too many lines"
            body = json_text({"error": why}).encode()
            head = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            self.transport.write(head.encode() + body)
            self.transport.close()

    def handle_connect(self, event: Any) -> None:
        """Lets the application cut the client off."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:
            scope[CONNECTION] = self

    def handle_text(self, event: Any) -> None:
        """Tells the application that the client speaks; what it says is nobody's business."""
        self._hear()

    def handle_bytes(self, event: Any) -> None:
        """Does as with a text."""
        self._hear()

    def handle_cont(self, event: Any) -> None:
        """Does as with a text: a message in pieces without end would be kept until then."""
        self._hear()

    def _hear(self) -> None:
        self.curr_msg_data_type, self.frames = "bytes", [b""]
        self.send_receive_event_to_app()

    def pause_writing(self) -> None:
        """Reads nothing either from a client that reads nothing: answers to its pings would pile up."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Reads again."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    async def run_asgi(self) -> None:
        """Ends the connection some time after the application has, whether the client reads or not."""
        try:
            await super().run_asgi()
        finally:
            self.loop.call_later(_AFTER_END_S, self.transport.abort)

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
