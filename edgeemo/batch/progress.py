"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from edgeemo.batch.table import Scored

EVERY_S = 10.0


class Progress:
    """Counts what was scored and says so.

    Args:
        total: recordings that are to be scored.
        stream: where it is said; a bar where it is a terminal and rich is installed, else a line every
            `every_s`.
        every_s: see `EVERY_S`.
    """

    def __init__(self, total: int, stream: TextIO, *, every_s: float = EVERY_S) -> None:
        self._total, self._stream, self._every_s = total, stream, every_s
        self._done = self._errors = 0
        self._media_s = 0.0
        self._begun = self._said = time.monotonic()
        self._bar = _bar(stream, total)

    def add(self, scored: Scored) -> None:
        """Takes what came of one recording."""
        self._done += 1
        self._errors += bool(scored.error)
        self._media_s += scored.duration_s
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, said=self._facts())
        elif time.monotonic() - self._said >= self._every_s or self._done == self._total:
            self._said = time.monotonic()
            print(f"{self._done} of {self._total} recordings, {self._facts()}", file=self._stream, flush=True)

    def _facts(self) -> str:
        took_s = max(time.monotonic() - self._begun, 1e-3)
        rate = self._done / took_s
        left_s = round((self._total - self._done) / rate)
        facts = [f"{rate:.2f} a second", f"{self._media_s / 3600:.2f} h of media"]
        if left_s:
            facts.append(f"{words_from_seconds(left_s)} left")
        if self._errors:
            facts.append(f"{self._errors} with errors")
        return ", ".join(facts)

    def start(self) -> None:
        """Shows the bar."""
        if self._bar is not None:
            self._bar.start()

    def stop(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress_of(total: int, stream: TextIO) -> Iterator[Progress]:
    """Gives the progress of a run, shown until the end of the block."""
    progress = Progress(total, stream)
    progress.start()
    try:
        yield progress
    finally:
        progress.stop()


def words_from_seconds(seconds: float) -> str:
    """Returns a time as people say it: ``"42 s"``, ``"3:05 min"``, ``"2:03:05 h"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def _bar(stream: TextIO, total: int) -> Any:
    """Returns rich's bar; None where the stream is no terminal or rich is not installed."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        return None
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[said]}"),
    )
    bar = Progress(
        *columns, console=Console(file=stream), transient=True, redirect_stdout=False, redirect_stderr=False
    )
    bar.add_task("", total=total, said="")
    return bar
