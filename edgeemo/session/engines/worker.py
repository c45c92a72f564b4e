"""One thread for everything about engines that takes long: opening, warming, closing, reloading."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from edgeemo.errors import SessionClosedError

Result = TypeVar("Result")
_CLOSE_S = 1.5


class Worker:
    """Does jobs one after the other, in a thread that starts with the first of them.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], Result]) -> Future[Result]:
        """Does a job as soon as those before it are done.

        Raises:
            SessionClosedError: the worker is closed.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._closed:
                raise SessionClosedError("this session is closed; open a new one")
            self._jobs.append((future, job))
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        return future

    def close(self, timeout_s: float = _CLOSE_S) -> bool:
        """Begins no job any more and waits for the one under way; returns whether it has ended.

        One that takes longer than `timeout_s` is left to end by itself. May be called twice.
        """
        with self._changed:
            self._closed = True
            for future, _ in self._jobs:
                future.cancel()
            self._jobs.clear()
            self._changed.notify()
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                future, job = self._jobs.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except BaseException as error:  # the future's owner is told
                future.set_exception(error)
            del future, job  # a finished job keeps no engine alive
