"""Work that may wait, in threads of its own, so that the event loop never does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgeemo.errors import EdgeEmoError

T = TypeVar("T")

_MOST_WAITING = 16


class BusyError(EdgeEmoError):
    """So much waits for a driver already that nothing more is taken on."""


class OffLoop:
    """Two pools: one for what is quick, one for what waits for drivers, so that these hold up no other."""

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(2, "edgeemo-quick")
        self._slow = ThreadPoolExecutor(2, "edgeemo-slow")
        self._waiting = 0

    async def quick(self, function: Callable[[], T]) -> T:
        """Returns what a function gives that takes milliseconds."""
        return await asyncio.get_running_loop().run_in_executor(self._quick, function)

    async def slow(self, function: Callable[[], T]) -> T:
        """Returns what a function gives that may wait for a driver.

        Raises:
            BusyError: too many wait already.
        """
        if self._waiting >= _MOST_WAITING:
            raise BusyError(f"{self._waiting} requests wait for a device already; try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._slow, function)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Takes nothing more on; what is under way ends by itself."""
        for pool in (self._quick, self._slow):
            pool.shutdown(wait=False, cancel_futures=True)
