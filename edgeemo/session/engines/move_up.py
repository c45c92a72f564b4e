"""Serve at once, move up when ready: what a faster backend needs is made beside a running session."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeemo.bundle import Bundle
from edgeemo.errors import EdgeEmoError, SessionClosedError
from edgeemo.runtimes.backends import Backend
from edgeemo.session.engines.pool import EnginePool
from edgeemo.session.engines.snapshot import STEM
from edgeemo.session.events import EventKind

log = logging.getLogger(__name__)

Tell = Callable[[EventKind, str, Mapping[str, Any]], object]

_LOOK_S = 0.2
_END_S = 1.0  # what a child gets to end by itself


class MoveUp:
    """Moves engines to the best backend that works, one by one, the most used subset first.

    A thread has what a backend needs built in a child process of low priority, one at a time, opens it and
    offers it to the pool, which checks its answers and exchanges it between two hops. What fails is one
    event; the engine in use goes on.

    Args:
        pool: whose engines move.
        backends: better ones than the pool's, best first.
        threads: of each engine.
        tell: takes events.
    """

    def __init__(self, pool: EnginePool, backends: Sequence[Backend], *, threads: int, tell: Tell) -> None:
        self._pool, self._backends, self._threads, self._tell = pool, tuple(backends), threads, tell
        self._stop = threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._tried: set[tuple[str, str, str]] = set()  # bundle, backend, name
        self.rejected: dict[str, str] = {}
        """Backend -> why it cannot be used here."""
        self._thread = threading.Thread(target=self._run, name="edgeemo-move-up", daemon=True)

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends what is being built; returns at once. May be called twice."""
        self._stop.set()
        with self._lock:
            child = self._child
        if child is not None:
            child.kill()

    def join(self, timeout_s: float = _END_S) -> None:
        """Waits for the thread; `stop` it first."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            for backend in self._backends:
                why = self._why_not(backend)
                if not why:
                    self._move_to(backend)
                    return
                self.rejected[backend.name] = why
                log.info("%s is not used: %s", backend.name, why)
        except SessionClosedError:
            return

    def _why_not(self, backend: Backend) -> str:
        try:
            return backend.why_not()
        except Exception as error:
            log.exception("%s does not say whether it works", backend.name)
            return f"{type(error).__name__}: {error}"

    def _move_to(self, backend: Backend) -> None:
        """Moves everything to one backend, and what a reload brings after it."""
        while not self._stop.is_set():
            name = self._next(backend)
            if name is None:
                self._stop.wait(_LOOK_S)  # a reload may bring new engines
                continue
            bundle = self._pool.snapshot.bundle
            self._tried.add((bundle.manifest_sha256, backend.name, name))
            begun = time.monotonic()
            try:
                self._move(backend, bundle, name)
            except SessionClosedError:
                return
            except EdgeEmoError as error:
                self._fail(backend, name, str(error))
            except Exception as error:
                log.exception("%s on %s failed", name, backend.name)
                self._fail(backend, name, f"{type(error).__name__}: {error}")
            else:
                log.info("%s moved to %s after %.1f s", name, backend.name, time.monotonic() - begun)

    def _next(self, backend: Backend) -> str | None:
        """Returns what to move next: the most used engine, then the others, then stems; None where done."""
        snapshot = self._pool.snapshot
        identity = snapshot.bundle.manifest_sha256
        names = [
            name
            for name in snapshot.names
            if (identity, backend.name, name) not in self._tried
            and (runner := snapshot.runner(name)) is not None
            and runner.backend != backend.name
            and backend.variant_of(snapshot.files(name)) is not None
        ]
        used = self._pool.usage()
        return max(names, key=lambda name: (not name.startswith(STEM), used.get(name, 0)), default=None)

    def _move(self, backend: Backend, bundle: Bundle, name: str) -> None:
        variant = backend.variant_of(self._pool.snapshot.files(name))
        if variant is None:
            return
        if not backend.is_prepared(bundle, name, variant):
            self._prepare(backend.prepare_command(bundle, name, variant))
        if self._stop.is_set():
            return
        runner = backend.open(bundle, name, variant, threads=self._threads)
        try:
            self._pool.offer(name, runner, f"{backend.name} is ready")
        except BaseException:
            runner.close()
            raise

    def _prepare(self, command: Sequence[str]) -> None:
        """Runs a build to its end, or until the session is closed.

        Raises:
            EdgeEmoError: it failed; the message is the last that it said.
        """
        with self._lock:
            if self._stop.is_set():
                return
            self._child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        child = self._child
        try:
            _, said = child.communicate()
        finally:
            with self._lock:
                self._child = None
            child.kill()
            child.wait()
        if child.returncode and not self._stop.is_set():
            lines = [line for line in said.splitlines() if line.strip()]
            how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit {child.returncode}"
            raise EdgeEmoError(f"the build ended with {how}: {lines[-1] if lines else 'it said nothing'}")

    def _fail(self, backend: Backend, name: str, why: str) -> None:
        if self._stop.is_set():
            return
        message = f"{name} does not move to {backend.name}, the engine in use goes on: {why}"
        log.warning("%s", message)
        detail = {"engine": name, "backend": backend.name, "reason": why}
        self._tell(EventKind.MOVE_FAILED, message, detail)
