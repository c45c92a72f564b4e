"""A device read in a child process, which can be ended whatever its driver does."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from io import FileIO
from typing import Any, cast

from edgeemo.errors import InputError
from edgeemo.sensors.base import Clock
from edgeemo.sensors.connections.base import Connection, Gone, Receiver, Source
from edgeemo.sensors.connections.clock_map import ClockMap
from edgeemo.sensors.connections.pipes import has_data
from edgeemo.sensors.connections.python import child_command
from edgeemo.sensors.connections.wire import Kind, Message, WireError, chunk_from_message, read_message

log = logging.getLogger(__name__)

_ASKED_S = 0.45  # what a child gets to end by itself; it takes 0.3 s where a driver hangs
_TAIL_BYTES = 4096
_TICK_S = 0.25


class ProcessConnection(Connection):
    """Starts a child that opens and reads the device; a thread here takes what it sends.

    A child that hangs is killed. One that crashes is an outcome like any other.
    """

    def __init__(self, source: Source, clock: Clock, receive: Receiver) -> None:
        super().__init__(source, clock, receive)
        self._recipe = source.recipe()
        self._times = ClockMap(clock)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._last_words = b""
        # The thread that starts a child must live as long as the child: Linux counts it as the parent.
        self._thread = threading.Thread(target=self._run, name=f"edgeemo {source.name}", daemon=True)

    @property
    def pid(self) -> int | None:
        """The child's process id, None before it is started."""
        return self._process.pid if self._process else None

    def begin(self) -> None:
        """Starts the thread, which starts the child."""
        self._thread.start()

    def stop(self) -> None:
        """Asks the child to close its device and to end."""
        super().stop()
        with self._lock:
            if self._process and self._process.stdin:
                with suppress(OSError):
                    self._process.stdin.close()

    def kill(self) -> None:
        """Ends the child by force."""
        with self._lock:
            if self._process:
                self._process.kill()

    def join(self, timeout_s: float) -> bool:
        """Waits for the child to end by itself, and ends it by force where that takes too long."""
        if not self._finished.wait(min(_ASKED_S, timeout_s)):
            self.kill()
        finished = self._finished.wait(max(0.0, timeout_s - _ASKED_S))
        if self._thread is not threading.current_thread():
            self._thread.join(0.05)
        return finished

    def _run(self) -> None:
        gone = self._source.glance()
        if gone:
            self.outcome = gone
            self._finished.set()
            return
        try:
            process = self._start()
        except OSError as error:
            self.outcome = Gone("lost", f"no process for {self._source.name} can be started: {error}")
            self._finished.set()
            return
        name = f"edgeemo {self._source.name}, log"
        listener = threading.Thread(target=self._listen, args=(process,), name=name, daemon=True)
        listener.start()
        told = None
        try:
            told = self._receive_all(process)
        except (OSError, WireError, InputError) as error:
            told = Gone("lost", f"{self._source.name} sent what cannot be used: {error}")
        finally:
            self._end(process, told, listener)

    def _start(self) -> subprocess.Popen[bytes]:
        options: dict[str, Any] = {}
        if sys.platform == "win32":
            options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        else:
            options["start_new_session"] = True  # the terminal's Ctrl-C is for the application
        told = {  # not among the arguments, which everybody can see: addresses of cameras hold passwords
            "parent": os.getpid(),
            "target": self._recipe.target,
            "options": self._recipe.options,
            "patience": dataclasses.asdict(self._source.patience),
        }
        with self._lock:
            if self.is_stopped:
                raise OSError("it was closed meanwhile")
            self._process = process = subprocess.Popen(
                child_command("edgeemo.sensors.connections.child"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ},
                **options,
            )
            with suppress(BrokenPipeError):  # it died at once; its end will be told
                cast(FileIO, process.stdin).write(json.dumps(told).encode() + b"\n")
        return process

    def _receive_all(self, process: subprocess.Popen[bytes]) -> Gone | None:
        """Takes messages until the child's end; returns what it said of it, None where it said nothing."""
        while (message := read_message(cast(FileIO, process.stdout))) is not None:
            if message.kind is Kind.GONE:
                missing = tuple(message.meta.pop("missing", None) or ()) or None
                return Gone(**message.meta, missing=missing)
            self._take(message)
        return None

    def _take(self, message: Message) -> None:
        if message.drops or message.overflows:
            self._source.count_losses(drops=message.drops, overflows=message.overflows)
        if message.kind is Kind.OPENED:
            self.declared_rate = message.meta.get("declared_rate")
            self._source.note(message.meta.get("about") or {})
            self.is_open = True
        elif message.kind is Kind.CHUNK and not self.is_stopped:
            self._receive(self, chunk_from_message(message, self._times.time_s(message.time_s)))

    def _end(self, process: subprocess.Popen[bytes], told: Gone | None, listener: threading.Thread) -> None:
        try:
            process.wait(_ASKED_S if told else 0.1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()  # for ever where the kernel itself hangs: it then counts as one left behind
        listener.join(2 * _TICK_S)
        with self._lock:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe and not (pipe is process.stderr and listener.is_alive()):
                    with suppress(OSError):
                        pipe.close()
        self.outcome = told or Gone("lost", f"{self._source.name}: {self._obituary(process.returncode)}")
        self._finished.set()

    def _obituary(self, code: int) -> str:
        if code < 0:
            try:
                how = f"its process was ended by {signal.Signals(-code).name}"
            except ValueError:
                how = f"its process was ended by signal {-code}"
        else:
            how = f"its process ended with exit code {code}"
        return f"{how}; it said: {self.last_words}" if self.last_words else how

    @property
    def last_words(self) -> str:
        """The last line that the child, its driver or a library wrote to standard error."""
        lines = self._last_words.decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Keeps the end of what the child writes to standard error, off the application's terminal."""
        pipe = cast(FileIO, process.stderr).fileno()
        while True:
            # A process that the child has left behind may hold the pipe open: its end is not waited for.
            if not has_data(pipe, _TICK_S):
                if process.returncode is not None:
                    return
                continue
            said = os.read(pipe, _TAIL_BYTES)
            if not said:
                return
            log.debug("%s: %s", self._source.name, said.decode("utf-8", "replace").rstrip())
            self._last_words = (self._last_words + said)[-_TAIL_BYTES:]
