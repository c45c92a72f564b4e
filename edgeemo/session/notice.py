"""What people must be told, and must have acknowledged, before a session senses them.

In the European Union a deployer of an emotion recognition system informs the people exposed to it
(Regulation (EU) 2024/1689, the AI Act, Article 50(3)), clearly and at the latest at the first exposure
(Article 50(5)); inferring emotions at work and in education is prohibited but for medical or safety
reasons (Article 5(1)(f)). A notice serves the first two: no sensor opens before somebody acknowledged it,
and when and by whom is kept as an event. It does not make a prohibited use lawful, and it is no legal
advice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from edgeemo.errors import InputError, NoticeError

log = logging.getLogger(__name__)

Ask = Callable[[], bool]
"""Shows the notice in the application's own way; True where it was acknowledged."""


@dataclass(frozen=True)
class Acknowledgement:
    """Who acknowledged a notice, and when.

    Attributes:
        by: who, in the application's words; never needed to be a name.
        text: what was acknowledged; empty where the application showed a notice of its own.
        at: UTC, ISO 8601 with seconds.
    """

    by: str
    text: str
    at: str


class Notice:
    """The gate between a session and its sensors.

    Args:
        notice: None where the application informs people elsewhere: the gate is open. A text that must be
            acknowledged with `acknowledge`. A function that shows a notice and returns whether it was
            acknowledged: it is asked when sensors are to open.

    Raises:
        InputError: a text without words, or something else.
    """

    def __init__(self, notice: str | Ask | None) -> None:
        if isinstance(notice, str) and not notice.strip():
            raise InputError("a notice needs words; leave it out where people are informed elsewhere")
        if not (notice is None or isinstance(notice, str) or callable(notice)):
            raise InputError(
                f"a notice is a text or a function that asks, got {type(notice).__name__}; see Session"
            )
        self._notice = notice
        self.acknowledged: Acknowledgement | None = None

    @property
    def text(self) -> str:
        """What must be acknowledged; empty where there is no text."""
        return self._notice if isinstance(self._notice, str) else ""

    @property
    def is_open(self) -> bool:
        """Whether sensors may open without asking."""
        return self._notice is None or self.acknowledged is not None

    def acknowledge(self, by: str) -> Acknowledgement:
        """Opens the gate and returns what is kept of it.

        Raises:
            InputError: it is not said by whom.
        """
        if not isinstance(by, str) or not by.strip():
            raise InputError(f"say by whom the notice was acknowledged, in words; got {by!r}")
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.acknowledged = Acknowledgement(by, self.text, now)
        log.info("notice acknowledged by %s at %s", by, now)
        return self.acknowledged

    def withdraw(self) -> None:
        """Closes the gate again."""
        self.acknowledged = None

    def require(self) -> Acknowledgement | None:
        """Returns at once where the gate is open, and asks where the application gave a function.

        Returns:
            the acknowledgement where the function gave one just now.

        Raises:
            NoticeError: nobody has acknowledged the notice.
        """
        if self.is_open:
            return None
        if callable(self._notice):
            if self._notice() is True:
                return self.acknowledge("the application's own notice")
            raise NoticeError("the notice was not acknowledged, so no sensor opens; ask again to try again")
        raise NoticeError(
            f"the notice must be acknowledged before anything is sensed: show {self.text!r} and call "
            "acknowledge(by=...) on the session"
        )
