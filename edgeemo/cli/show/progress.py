"""A progress bar for what takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE_S = 2.0


def _terminal() -> Any:
    """Returns rich's console on stderr; None where rich is not installed or stderr is no terminal."""
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(file=sys.stderr)
    return console if console.is_terminal else None


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function to call with (done, total); the bar appears on stderr once two seconds are over.

    Nothing appears where stderr is no terminal or rich is not installed; it vanishes at the end.

    Args:
        title: what is under way, in a few words.
    """
    console = _terminal()
    if console is None:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(title, total=None)
    begun = time.monotonic()
    started = False

    def advance(done: int, total: int) -> None:
        nonlocal started
        if not started and time.monotonic() - begun >= PATIENCE_S:
            started = True
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        if started:
            bar.stop()


@contextmanager
def phase_bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """Yields a function to call with (part that is done, what is under way), for work in uneven steps.

    As `progress_bar`, and the time that has passed goes on while a step takes long.

    Args:
        title: what is under way, in a few words.
    """
    console = _terminal()
    if console is None:
        yield lambda part, phase: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[phase]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0, phase="")
        yield lambda part, phase: bar.update(task, completed=part, phase=phase)
