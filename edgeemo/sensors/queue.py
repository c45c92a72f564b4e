"""A bounded queue of chunks between a reader's thread and the session: what is lost is counted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

from edgeemo.errors import InputError
from edgeemo.sensors.base import Chunk

Policy = Literal["latest", "drop-oldest", "block"]


class ChunkQueue:
    """Holds chunks until they are taken; what happens when it is full is its policy.

    Args:
        capacity: how many chunks it holds; ``latest`` holds one.
        policy: ``latest`` keeps only the newest chunk, ``drop-oldest`` makes room by losing the oldest
            (both count what they lose), ``block`` makes the reader wait and loses nothing.

    Raises:
        InputError: an unknown policy, or a capacity below 1.
    """

    def __init__(self, capacity: int, policy: Policy) -> None:
        if policy not in ("latest", "drop-oldest", "block"):
            raise InputError(f"unknown queue policy {policy!r}; there are: latest, drop-oldest, block")
        if capacity < 1:
            raise InputError(f"a queue needs room for at least 1 chunk, got {capacity}")
        self._capacity = 1 if policy == "latest" else capacity
        self._policy = policy
        self._chunks: deque[Chunk] = deque()
        self._changed = threading.Condition()
        self._drops = 0

    @property
    def drops(self) -> int:
        """Chunks lost so far."""
        return self._drops

    @property
    def is_full(self) -> bool:
        """Whether the next chunk has to wait for room; never where room is made by losing one."""
        return self._policy == "block" and len(self._chunks) >= self._capacity

    def __len__(self) -> int:
        return len(self._chunks)

    def put(self, chunk: Chunk, *, cancelled: Callable[[], bool]) -> None:
        """Adds a chunk, unless ``cancelled``; under ``block`` waits for room until then."""
        with self._changed:
            while self._policy == "block" and len(self._chunks) >= self._capacity and not cancelled():
                self._changed.wait(0.05)
            if cancelled():
                return
            while len(self._chunks) >= self._capacity:
                self._chunks.popleft()
                self._drops += 1
            self._chunks.append(chunk)
            self._changed.notify_all()

    def take(self, timeout_s: float = 0.0) -> list[Chunk]:
        """Removes and returns all chunks, oldest first; waits at most ``timeout_s`` for the first."""
        with self._changed:
            if not self._chunks and timeout_s > 0:
                self._changed.wait_for(lambda: bool(self._chunks), timeout_s)
            taken = list(self._chunks)
            self._chunks.clear()
            self._changed.notify_all()
            return taken
