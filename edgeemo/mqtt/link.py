"""The thread that keeps a broker connected: tries again, says when it goes and when it comes back."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from edgeemo.mqtt.address import BrokerAddress
from edgeemo.mqtt.client import BrokerGoneError, Client, Login, Take
from edgeemo.mqtt.messages import Message
from edgeemo.mqtt.outbox import Outbox
from edgeemo.sensors.supervision import Patience

log = logging.getLogger(__name__)

_TURN_S = 1.0
_STEADY_S = 10.0  # a connection that lasted this long starts the back-off anew
_GOOD_BYE_S = 0.7
_JOIN_S = 0.2


class Link:
    """Sends what an outbox holds whenever the broker is there.

    Args:
        address: the broker.
        login: who we are to it.
        outbox: what is sent.
        greeting: what is published first after each connection.
        farewell: what is published last.
        topics: what is listened to.
        take: takes what arrives, in the thread of the network: it must not wait.
        patience: pauses between two attempts.
        tell: takes a sentence when the broker goes and when it comes back.
    """

    def __init__(
        self,
        address: BrokerAddress,
        login: Login,
        outbox: Outbox,
        *,
        greeting: Message,
        farewell: Message,
        topics: Sequence[str],
        take: Take,
        patience: Patience,
        tell: Callable[[str], object],
    ) -> None:
        self._address, self._login, self._outbox = address, login, outbox
        self._greeting, self._farewell, self._topics, self._take = greeting, farewell, topics, take
        self._patience, self._tell = patience, tell
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._stop = threading.Event()
        self._end_s = 0.0
        self._away_since_s = time.monotonic()
        self._dropped_before = (0, 0)
        self.connections = 0
        self.connected = threading.Event()
        self.why = "not connected yet"
        self._told: set[str] = set()
        self._client = self._new_client()  # at once: an address that cannot be used is refused here
        self._thread = threading.Thread(target=self._run, name="edgeemo-mqtt", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Says that there is something to send; never waits."""
        with contextlib.suppress(OSError):  # full: it is awake already; or closed
            self._wake.send(b".")

    def greet(self) -> None:
        """Publishes the greeting again, from the network's thread."""
        self._client.publish(self._greeting)

    def close(self) -> None:
        """Sends what waits and the farewell, as far as that goes within a second, and ends."""
        self._end_s = time.monotonic() + _GOOD_BYE_S
        self._stop.set()
        self.nudge()
        self._thread.join(_GOOD_BYE_S + _JOIN_S)

    def _new_client(self) -> Client:
        return Client(self._address, self._login, take=self._take, confirm=self._outbox.confirm)

    def _run(self) -> None:
        random = np.random.default_rng()
        failures = 0
        try:
            while not self._stop.is_set():
                began_s = time.monotonic()
                try:
                    self._serve()
                except BrokerGoneError as reason:
                    self._say_gone(str(reason), lasting=reason.lasting)
                except Exception as reason:  # whatever a broker sends must not end the thread
                    log.exception("the MQTT connection failed")
                    self._say_gone(f"{type(reason).__name__}: {reason}", lasting=True)
                finally:
                    self.connected.clear()
                    self._client.close()
                    self._outbox.give_back()
                failures = 0 if time.monotonic() - began_s > _STEADY_S else failures + 1
                if self._stop.wait(self._patience.pause_s(max(0, failures - 1), random)):
                    return
                self._client = self._new_client()
        finally:
            self._client.close()
            self._woken.close()
            self._wake.close()

    def _serve(self) -> None:
        """Connects, and sends until the broker goes or the end has come."""
        client = self._client
        client.open()
        while not self._stop.is_set():
            client.turn(self._woken, _TURN_S)
            if client.is_connected and not self.connected.is_set():
                self._begin(client)
            self._send_what_waits(client)
        if client.is_connected:
            self._say_good_bye(client)

    def _begin(self, client: Client) -> None:
        client.publish(self._greeting)
        client.subscribe(self._topics)
        self._outbox.renew()
        self._say_back()
        self.connections += 1
        self.connected.set()

    def _send_what_waits(self, client: Client) -> None:
        while client.has_room:
            message = self._outbox.take(events=client.has_room_for_events)
            if message is None:
                return
            client.publish(message)

    def _say_good_bye(self, client: Client) -> None:
        while time.monotonic() < self._end_s and not (self._outbox.is_empty and client.is_idle):
            self._send_what_waits(client)
            client.turn(self._woken, 0.02)
        client.publish(self._farewell)
        while time.monotonic() < self._end_s and not client.is_idle:
            client.turn(self._woken, 0.02)
        if client.is_idle:
            client.disconnect()

    def _say_gone(self, why: str, *, lasting: bool) -> None:
        """Says that the broker is gone: once, and once more where somebody must do something about it."""
        self.why = why
        if self._stop.is_set():
            return
        if self.connected.is_set():
            self._away_since_s = time.monotonic()
            self._dropped_before = self._outbox.dropped_readings, self._outbox.dropped_events
        if why in self._told or (self._told and not lasting):
            log.info("no MQTT broker at %s: %s", self._address, why)
            return
        self._told.add(why)
        self._tell(f"no MQTT broker at {self._address}: {why}; readings go on, and it is tried again")

    def _say_back(self) -> None:
        readings = self._outbox.dropped_readings - self._dropped_before[0]
        events = self._outbox.dropped_events - self._dropped_before[1]
        away_s = time.monotonic() - self._away_since_s
        if self._told:
            lost = f"; of the meantime {readings} readings and {events} events were not sent"
            self._tell(
                f"the MQTT broker at {self._address} is there after {away_s:.0f} s"
                + (lost if readings + events else "")
            )
        else:
            log.info("connected to the MQTT broker at %s", self._address)
        self._told.clear()
        self.why = ""
