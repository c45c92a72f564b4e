"""Readings, states and events of a session on an MQTT broker: what an application embeds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from edgeemo.errors import InputError
from edgeemo.mqtt.address import BrokerAddress, address_from_url, check_topic
from edgeemo.mqtt.client import Login, new_client_id, require_paho
from edgeemo.mqtt.commands import Commands
from edgeemo.mqtt.discovery import STATUS_TOPIC, discovery_from_manifest
from edgeemo.mqtt.link import Link
from edgeemo.mqtt.messages import (
    OFFLINE,
    ONLINE,
    Message,
    json_text,
    modality_json,
    silent_reading,
    state_from_reading,
    words_of_state,
)
from edgeemo.mqtt.outbox import Outbox
from edgeemo.mqtt.tls import Tls
from edgeemo.mqtt.topics import Topics
from edgeemo.sensors.supervision import Patience
from edgeemo.session import Reading, Session

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger(__name__)

STATE_EVERY_S = 5.0
"""Numbers of the retained states are sent this often; a word that changes is sent at once."""
PATIENCE = Patience(first_wait_s=1.0, most_wait_s=60.0, jitter=0.25)
"""Pauses between two attempts to connect."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class PublisherStats:
    """What a publisher has done so far.

    Attributes:
        connected: whether the broker is there now.
        connections: times that it was connected.
        why: what is wrong where it is not, as half a sentence.
        readings: readings that were given to `Publisher.publish`.
        dropped_readings: those that were never sent, because the broker was away for more than 5 s or too
            slow.
        dropped_events: events that were never sent: the newest 64 wait while the broker is away.
    """

    connected: bool
    connections: int
    why: str
    readings: int
    dropped_readings: int
    dropped_events: int


class Publisher:
    """Publishes what a session says, for as long as it is open; the session never waits for it.

    ```python
    with Session(sensors=["mic", "camera"]) as session, Publisher("mqtt://host/robot", session) as publisher:
        for reading in session:
            publisher.publish(reading)
    ```

    The connection is made, kept and made again in a thread of its own, with growing pauses. A broker that is
    away at the start, or for an hour, costs the session nothing; see `edgeemo.mqtt.outbox` for what waits
    for it and `edgeemo.mqtt.topics` for what is published where. Readings are sent at most once, events at
    least once. Where the process dies, the broker says ``offline`` in its place.

    Args:
        url: ``mqtt://user@host:port/topic``, or ``mqtts://`` for an encrypted connection.
        session: whose readings are published; its events are fetched, and its modalities may be muted.
        password: for the user in the address.
        tls: whom we trust and who we are, with ``mqtts://``; None trusts what the system trusts.
        client_id: our name on the broker, where it wants a certain one; None makes one. A broker throws out
            whoever had the name before.
        discovery: the prefix under which Home Assistant looks for devices; None for none.
        commands: whether modalities can be muted and unmuted through the broker. Whoever may publish there
            can then switch the microphone and camera on.
        patience: pauses between two attempts to connect.
        tell: takes a sentence when the broker goes, and when it comes back; None logs them as warnings.

    Raises:
        InputError: an address that cannot be used, a password without a user, files for an encrypted
            connection with a plain address, or such files that cannot be used.
        MissingDependencyError: paho-mqtt is not installed.
    """

    def __init__(
        self,
        url: str,
        session: Session,
        *,
        password: str | None = None,
        tls: Tls | None = None,
        client_id: str | None = None,
        discovery: str | None = "homeassistant",
        commands: bool = False,
        patience: Patience = PATIENCE,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self.address = address_from_url(url)
        self.topics = Topics(self.address.topic)
        tell = tell or log.warning
        _check(self.address, password, tls)
        if discovery is not None:
            check_topic(discovery, what="the prefix for discovery")
        context = (tls or Tls()).context() if self.address.encrypted else None
        require_paho()
        self._session = session
        self._outbox = Outbox()
        self._lock = threading.Lock()
        self._seen_event = 0
        self._readings = 0
        self._newest_s = 0.0
        self._words: dict[str, object] = {}
        self._state_due_s = 0.0
        self._closed = False
        self._status_topic = f"{discovery}/{STATUS_TOPIC}" if discovery else ""
        if discovery:
            self._keep_discovery(discovery, commands=commands)
        if password and not self.address.encrypted and self.address.host not in _LOOPBACK:
            tell(f"the password for {self.address} goes over the network unencrypted; mqtts:// encrypts it")
        self._commands = Commands(session, self.topics, tell=tell) if commands else None
        listened = [self.topics.availability, self._status_topic]
        listened += self._commands.topics if self._commands else ()
        offline = Message(self.topics.availability, OFFLINE, qos=1, retained=True)
        try:
            self._link = Link(
                self.address,
                Login(
                    client_id or new_client_id(),
                    password,
                    context,
                    will=offline,
                    is_chosen=bool(client_id),
                ),
                self._outbox,
                greeting=Message(self.topics.availability, ONLINE, qos=1, retained=True),
                farewell=offline,
                topics=[topic for topic in listened if topic],
                take=self._take,
                patience=patience,
                tell=tell,
            )
        except BaseException:
            if self._commands:
                self._commands.close()
            raise

    def publish(self, reading: Reading) -> None:
        """Sends a reading, the states that it changes, and what happened before it; never waits.

        Safe to use from several threads; does nothing after `close`.
        """
        with self._lock:
            if self._closed:
                return
            self._readings += 1
            self._newest_s = reading.time_s
            for event in self._session.events(after=self._seen_event):
                self._seen_event = event.number
                self._outbox.put_event(Message(self.topics.event, json_text(event.to_json()), qos=1))
            self._outbox.put_reading(Message(self.topics.reading, json_text(reading.to_json())))
            self._keep_states(reading)
        self._link.nudge()

    def silence(self, why: str) -> None:
        """Publishes that nothing is sensed until the next reading; never waits.

        Call it where a session goes on without readings, as when an acknowledgement was taken back: the
        broker would keep the last state, and tell it to whoever comes later.

        Args:
            why: as a sentence without its full stop.
        """
        with self._lock:
            if self._closed:
                return
            self._keep_silence(why)
        self._link.nudge()

    def wait_connected(self, timeout_s: float) -> bool:
        """Waits until the broker is there; False where that takes longer."""
        return self._link.connected.wait(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        """Waits until all that was published has left and the events have arrived.

        Returns:
            False where that takes longer.
        """
        self._link.nudge()
        return self._outbox.wait_empty(timeout_s)

    @property
    def stats(self) -> PublisherStats:
        """What has been done so far."""
        return PublisherStats(
            connected=self._link.connected.is_set(),
            connections=self._link.connections,
            why=self._link.why,
            readings=self._readings,
            dropped_readings=self._outbox.dropped_readings,
            dropped_events=self._outbox.dropped_events,
        )

    def close(self) -> None:
        """Publishes that the session has ended and ``offline``, and ends; may be called twice.

        Takes at most a second, even where the broker hangs; it then publishes ``offline`` itself.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._keep_silence("the session has ended")
        if self._commands:
            self._commands.close()
        self._link.close()

    def _keep_discovery(self, prefix: str, *, commands: bool) -> None:
        name = " ".join(["edgeemo", *self.topics.base.split("/")])
        described = discovery_from_manifest(
            self._session.manifest,
            self.topics,
            name=name.replace("edgeemo edgeemo", "edgeemo"),
            commands=commands,
        )
        self._outbox.keep(Message(self.topics.discovery(prefix), json_text(described), retained=True))

    def _keep_silence(self, why: str) -> None:
        self._state_due_s = 0.0
        self._keep_states(silent_reading(self._session.manifest.order, time_s=self._newest_s, why=why))

    def _keep_states(self, reading: Reading) -> None:
        """Keeps each state whose words have changed, and all of them once their time has come."""
        state = state_from_reading(reading)
        news = {self.topics.state: (words_of_state(state), state)}
        for name, status in reading.states.items():
            news[self.topics.modality(name)] = ((status.state,), modality_json(status))
        now_s = time.monotonic()
        all_due = now_s >= self._state_due_s
        if all_due:
            self._state_due_s = now_s + STATE_EVERY_S
        for topic, (words, data) in news.items():
            if all_due or self._words.get(topic) != words:
                self._words[topic] = words
                self._outbox.keep(Message(topic, json_text(data), retained=True))

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        """Takes what arrives, in the thread of the network."""
        if topic == self._status_topic:
            if payload == ONLINE.encode():  # Home Assistant has started and knows nothing yet
                self._outbox.renew()
        elif topic == self.topics.availability:
            # A connection that we lost long ago may die on the broker only now, and its will with it.
            if payload == OFFLINE.encode() and not retained and not self._closed:
                self._link.greet()
        elif self._commands:
            self._commands.take(topic, payload, retained)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        stats = self.stats
        how = "connected" if stats.connected else f"not connected: {stats.why}"
        return f"<Publisher of {self.topics.base!r} to {self.address}, {how}>"


def _check(address: BrokerAddress, password: str | None, tls: Tls | None) -> None:
    if password and not address.user:
        raise InputError("a password belongs to a user; name one in the address: mqtt://user@host/topic")
    if tls is not None and not address.encrypted:
        raise InputError(
            "certificates and keys are for encrypted connections; write mqtts:// in place of mqtt://"
        )
