"""Live sockets: little room for each kind of message, a deadline for each that is sent, a limit on all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

log = logging.getLogger(__name__)

_ROOM = {"hello": 1, "event": 64, "reading": 4, "status": 1, "end": 1}
"""Messages of each kind that wait for a client, in the order in which kinds are sent. A busy moment of this
machine is shorter than four readings; a client that is longer behind wants the newest."""
_SWEEP_S = 0.5

Send = Callable[[str], Awaitable[None]]


class Client:
    """What waits for one client.

    Newer readings take the place of those that were not sent yet, so that a client that reads slowly gets
    what is true now, and one that never reads holds a few texts that all clients share.

    Args:
        send: sends one text; waits where the client takes none.
        abort: ends the connection at once, whatever waits to be sent.
    """

    def __init__(self, send: Send, abort: Callable[[], None]) -> None:
        self._send, self.abort = send, abort
        self._slots: dict[str, deque[str]] = {kind: deque(maxlen=room) for kind, room in _ROOM.items()}
        self._wake = asyncio.Event()
        self._sending_since_s: float | None = None
        self.replaced = 0

    def put(self, kind: str, text: str) -> None:
        """Leaves a message for it; call it in the event loop. A hello holds what came before it."""
        if kind == "hello":
            for earlier in self._slots.values():
                earlier.clear()
        slot = self._slots[kind]
        self.replaced += len(slot) == slot.maxlen
        slot.append(text)
        self._wake.set()

    async def send_all(self) -> None:
        """Sends what is left for it, until it is cancelled or the connection ends."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for text in self._waiting():
                self._sending_since_s = time.monotonic()
                await self._send(text)
                self._sending_since_s = None

    def _waiting(self) -> Iterator[str]:
        for slot in self._slots.values():
            while slot:
                yield slot.popleft()

    def is_overdue(self, deadline_s: float) -> bool:
        """Whether it has not accepted a message for so long."""
        since_s = self._sending_since_s
        return since_s is not None and time.monotonic() - since_s > deadline_s


class Clients:
    """All live sockets; used in the event loop alone, but for `deliver` and the counts.

    Args:
        most: how many there may be at once.
        deadline_s: how long one may take to accept a message before it is cut off.

    Attributes:
        cut_off: those that were, so far.
        refused: those that found no room, so far.
    """

    def __init__(self, *, most: int, deadline_s: float) -> None:
        self._most, self._deadline_s = most, deadline_s
        self._clients: set[Client] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._replaced_before = 0
        self.cut_off = self.refused = 0

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def replaced(self) -> int:
        """Messages that a newer one replaced before a client took them, so far; from any thread."""
        return self._replaced_before + sum(client.replaced for client in tuple(self._clients))

    def join(self, client: Client) -> bool:
        """Adds a client; False where there is no room."""
        if len(self._clients) >= self._most:
            self.refused += 1
            return False
        self._clients.add(client)
        return True

    def leave(self, client: Client, *, silent: bool = False) -> None:
        """Forgets a client; a silent one was cut off as it answered no ping."""
        if client in self._clients:
            self.cut_off += silent
            self._clients.remove(client)
            self._replaced_before += client.replaced

    def deliver(self, kind: str, text: str) -> None:
        """Leaves a message for every client; from any thread, returns at once."""
        if self._loop is None or not self._clients:
            return
        with suppress(RuntimeError):  # the loop has ended, and all clients with it
            self._loop.call_soon_threadsafe(self._put, kind, text)

    def _put(self, kind: str, text: str) -> None:
        for client in self._clients:
            client.put(kind, text)

    async def sweep(self) -> None:
        """Cuts off who does not read, until it is cancelled; messages are delivered from then on."""
        self._loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._cut_off(self._deadline_s)

    def end(self) -> None:
        """Cuts off at once whoever has not accepted what was sent before."""
        self._cut_off(0.0)

    def _cut_off(self, deadline_s: float) -> None:
        for client in [client for client in self._clients if client.is_overdue(deadline_s)]:
            log.info("a client that took no message for %g s was cut off", deadline_s)
            self.cut_off += 1
            self.leave(client)
            client.abort()
