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
                why = self._why_not(backend) or self._move_to(backend)
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

    def _move_to(self, backend: Backend) -> str:
        """Moves everything to one backend, and what a reload brings after it, until the session is closed.

        Returns:
            why the backend is given up: two moves in a row failed of the same, or all did of something.

        Raises:
            SessionClosedError: the session was closed.
        """
        failed, moved = "", False
        while True:
            name = self._next(backend)
            if name is None and failed and not moved:
                return failed
            if name is None:
                if self._stop.wait(_LOOK_S):  # a reload may bring new engines
                    raise SessionClosedError("the session was closed")
                continue
            bundle = self._pool.snapshot.bundle
            self._tried.add((bundle.manifest_sha256, backend.name, name))
            why = self._attempt(backend, bundle, name)
            if why and why == failed:
                self._tell_failed(
                    backend, f"everything else stays where it is, {backend.name} is given up: {why}"
                )
                return why
            if why:
                self._tell_failed(backend, f"{name} does not move to {backend.name}: {why}", name=name)
            failed, moved = why, moved or not why

    def _attempt(self, backend: Backend, bundle: Bundle, name: str) -> str:
        """Moves one engine or stem; returns why not, empty where it serves there now."""
        begun = time.monotonic()
        try:
            self._move(backend, bundle, name)
        except SessionClosedError:
            raise
        except EdgeEmoError as error:
            return str(error)
        except Exception as error:
            log.exception("%s on %s failed", name, backend.name)
            return f"{type(error).__name__}: {error}"
        log.info("%s moved to %s after %.1f s", name, backend.name, time.monotonic() - begun)
        return ""

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
            raise SessionClosedError("the session was closed")
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

    def _tell_failed(self, backend: Backend, message: str, *, name: str | None = None) -> None:
        if self._stop.is_set():
            raise SessionClosedError("the session was closed")
        log.warning("%s; the engines in use go on", message)
        self._tell(EventKind.MOVE_FAILED, message, {"engine": name, "backend": backend.name})
