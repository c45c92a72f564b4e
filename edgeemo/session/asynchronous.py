"""Readings for asyncio: each one awaited, the event loop never held up."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator

from edgeemo.session.reading import Reading


async def readings_from(iterator: Iterator[Reading], *, end: Callable[[], None]) -> AsyncIterator[Reading]:
    """Yields what `iterator` gives, made in a thread of its own.

    The next reading is made while the loop does other things, and only once this one was taken. Where the
    task is cancelled or leaves the loop, the thread ends by itself within a hop.

    Args:
        iterator: blocks until its next reading.
        end: makes the iterator end soon; called when nobody wants readings any more.
    """
    import asyncio  # 20 ms, for those alone who run an event loop and have it already

    loop = asyncio.get_running_loop()
    asked, stopped = threading.Semaphore(0), threading.Event()
    answers: asyncio.Queue[Reading | BaseException | None] = asyncio.Queue()

    def answer(value: Reading | BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(answers.put_nowait, value)
        except RuntimeError:  # the loop was closed under us: nobody waits any more
            stopped.set()

    def make() -> None:
        try:
            while True:
                asked.acquire()
                if stopped.is_set():
                    return
                answer(next(iterator, None))
        except BaseException as error:  # raised where the reading is awaited
            answer(error)

    thread = threading.Thread(target=make, name="edgeemo-async", daemon=True)
    thread.start()
    try:
        while True:
            asked.release()
            got = await answers.get()
            if isinstance(got, BaseException):
                raise got
            if got is None:
                return
            yield got
    finally:
        stopped.set()
        end()
        asked.release()
