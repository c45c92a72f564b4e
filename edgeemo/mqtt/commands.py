"""Commands that come from a broker: a modality muted or unmuted from somewhere else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from edgeemo.errors import EdgeEmoError
from edgeemo.mqtt.messages import OFF, ON
from edgeemo.mqtt.topics import Topics
from edgeemo.session import Session

log = logging.getLogger(__name__)


class Commands:
    """Mutes and unmutes in a thread of its own: a driver may take its time, the network must not wait.

    The newest command for a modality counts; one that the broker had kept is not obeyed, because it may be
    from any time.

    Args:
        session: what is muted.
        topics: where commands come from.
        tell: takes a sentence where a command cannot be obeyed.
    """

    def __init__(self, session: Session, topics: Topics, *, tell: Callable[[str], object]) -> None:
        self._session, self._tell = session, tell
        self._modalities = {topics.mute(name): name for name in session.manifest.order}
        self._wanted: dict[str, bool] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._obey, name="edgeemo-mqtt-commands", daemon=True)
        self._thread.start()

    @property
    def topics(self) -> Sequence[str]:
        """Where commands come from."""
        return tuple(self._modalities)

    def take(self, topic: str, payload: bytes, retained: bool) -> None:
        """Takes a message; returns at once. What is no command is said in the log."""
        modality = self._modalities.get(topic)
        if modality is None:
            return
        word = payload[:64].decode("utf8", errors="replace").strip()
        if retained:
            log.warning(
                "a command that the broker had kept on %s is not obeyed: publish it unretained", topic
            )
        elif word not in (ON, OFF):
            log.warning("%s takes %s or %s, got %r", topic, ON, OFF, word)
        else:
            with self._changed:
                self._wanted[modality] = word == ON
                self._changed.notify_all()

    def close(self) -> None:
        """Obeys no more; returns at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _obey(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                modality, muted = self._wanted.popitem()
            try:
                (self._session.mute if muted else self._session.unmute)(modality)
                log.info("%s was %s by MQTT", modality, "muted" if muted else "unmuted")
            except EdgeEmoError as reason:
                self._tell(f"{modality} cannot be {'muted' if muted else 'unmuted'} by MQTT: {reason}")
