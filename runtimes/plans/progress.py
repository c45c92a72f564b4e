"""How far a plan's build has come, and how it is cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgeemo.runtimes.trt_library import Library


@dataclass(frozen=True)
class BuildStep:
    """One step of a build.

    Attributes:
        phase: what TensorRT works on, in its own words.
        fraction: of the whole build that is done, 0 to 1; it never falls. Phases differ in length, so it
            is no measure of the time that is left.
        elapsed_s: seconds since the build began.
    """

    phase: str
    fraction: float
    elapsed_s: float


OnStep = Callable[[BuildStep], None]


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0
    children: dict[str, float] = field(default_factory=dict)


class Progress:
    """Follows the nested phases of a build; may be called from several threads.

    Args:
        on_step: called after each step, at most ten times a second; None for nobody.
        stop: set it to cancel the build.
    """

    def __init__(self, on_step: OnStep | None, stop: threading.Event | None) -> None:
        self._on_step, self._stop = on_step, stop
        self._began = self._told = time.monotonic()
        self._phases: dict[str, _Phase] = {}
        self._fraction = 0.0
        self._lock = threading.Lock()
        self.failure: BaseException | None = None
        self.cancelled = False

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins inside ``parent``."""
        with self._lock:
            self._phases[name] = _Phase(parent or None, max(1, steps))
        self._tell(name, last=False)

    def step(self, name: str, number: int) -> bool:
        """A step is done; returns whether to go on."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is not None:
                phase.done = min(phase.steps, max(phase.done, number + 1))
                phase.children.clear()
                self._lift(name)
        self._tell(name, last=False)
        return not self._is_over()

    def finish(self, name: str) -> None:
        """A phase is over."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is not None and not self._is_over():
                phase.done = phase.steps
                self._lift(name)
            self._phases.pop(name, None)
        self._tell(name, last=not self._phases)

    def guard(self, action: Callable[..., Any], *given: Any) -> Any:
        """Calls one of the above; an exception (Ctrl-C too) ends the build instead of being lost in C++."""
        try:
            return action(*given)
        except BaseException as error:  # raised again by the builder
            self.failure = error
            return False

    def _is_over(self) -> bool:
        if self._stop is not None and self._stop.is_set():
            self.cancelled = True
        return self.cancelled or self.failure is not None

    def _lift(self, name: str) -> None:
        """Carries a phase's progress up to the outermost one."""
        phase = self._phases[name]
        inner = min(1.0, sum(phase.children.values()))
        done = min(1.0, (phase.done + inner) / phase.steps)
        parent = self._phases.get(phase.parent) if phase.parent else None
        if parent is None:
            self._fraction = max(self._fraction, done)
        else:
            parent.children = {name: min(done, 1 - 1e-6)}
            self._lift(phase.parent or "")

    def _tell(self, phase: str, *, last: bool) -> None:
        now = time.monotonic()
        if self._on_step is not None and (last or now - self._told >= 0.1):
            self._told = now
            self._on_step(BuildStep(phase, self._fraction, now - self._began))


def make_monitor(library: Library, progress: Progress) -> Any:
    """Returns the library's own monitor that reports to ``progress``."""

    class Monitor(library.module.IProgressMonitor):  # type: ignore[misc, name-defined]  # as the logger
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.guard(progress.start, phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return bool(progress.guard(progress.step, phase_name, step))

        def phase_finish(self, phase_name: str) -> None:
            progress.guard(progress.finish, phase_name)

    return Monitor()
