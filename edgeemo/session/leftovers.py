"""Sessions that a program did not close, closed when it ends: no thread outlives the interpreter."""

from __future__ import annotations

import atexit
from typing import Protocol
from weakref import WeakSet


class Closable(Protocol):
    """What has to be closed."""

    def close(self) -> None:
        """Lets go of everything; may be called twice."""


_open: WeakSet[Closable] = WeakSet()


def close_at_exit(session: Closable) -> None:
    """Closes `session` when the interpreter ends, unless it is gone by then."""
    if not _open:
        atexit.unregister(_close_all)  # the first one, or the first after all others have gone
        atexit.register(_close_all)
    _open.add(session)


def _close_all() -> None:
    for session in list(_open):
        session.close()
