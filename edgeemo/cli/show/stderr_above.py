"""What is written to standard error while a terminal shows a picture: let through above it, line by line."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stderr_above(show: Callable[[str], None]) -> Iterator[None]:
    """Gives each line that this process and its children write to standard error to a function.

    Libraries written in C and child processes write past Python, so the file descriptor itself is led
    elsewhere. A standard error that is no terminal, such as a file, is left alone.

    Args:
        show: takes a line, from a thread of its own.
    """
    if not os.isatty(2):
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    shown = threading.Event()
    shown.set()

    def forward() -> None:
        # Children keep the pipe open beyond the end of the picture: their lines go on to the terminal.
        rest = b""
        while data := os.read(reading, 65536):
            if not shown.is_set():
                os.write(kept, rest + data)
                rest = b""
                continue
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                show(line.decode(errors="replace"))
        os.write(kept, rest)
        drained.set()

    drained = threading.Event()
    threading.Thread(target=forward, name="edgeemo stderr", daemon=True).start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        drained.wait(0.2)  # at once where no child holds the pipe
        shown.clear()
