"""One connection to a broker: the only file that knows paho-mqtt."""

from __future__ import annotations

import secrets
import selectors
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeemo.errors import InputError, MissingDependencyError
from edgeemo.mqtt.address import BrokerAddress
from edgeemo.mqtt.messages import Message

if TYPE_CHECKING:
    from paho.mqtt.client import Client as PahoClient

KEEPALIVE_S = 15  # a broker that hangs is noticed after two of them, an unplugged device after one and a half
CONNECT_S = 5.0
ANSWER_S = 10.0  # between the connection and the broker's word that it takes us
MOST_IN_FLIGHT = 16

Take = Callable[[str, bytes, bool], None]
"""Called with topic, payload and whether the broker had kept it, for each message that arrives."""


class BrokerGoneError(Exception):
    """The connection cannot be made, or ended.

    Args:
        why: half a sentence.
        lasting: somebody must do something about it; waiting will not help.
    """

    def __init__(self, why: str, *, lasting: bool = False) -> None:
        super().__init__(why)
        self.lasting = lasting


@dataclass(frozen=True)
class Login:
    """Who we are to the broker, and what it says of us once we are gone.

    Attributes:
        client_id: unique on the broker.
        password: None where it wants none.
        context: of the encrypted connection; None for a plain one.
        will: what the broker publishes where we vanish.
        is_chosen: whether somebody chose our name, who may have given it to another device, too.
    """

    client_id: str
    password: str | None = field(repr=False)
    context: ssl.SSLContext | None
    will: Message
    is_chosen: bool = False


def new_client_id() -> str:
    """Returns a name of letters and digits alone, short enough for every broker (MQTT 3.1.1, 3.1.3.1)."""
    return f"edgeemo{secrets.token_hex(6)}"


def require_paho() -> None:
    """Returns where paho-mqtt 2 is installed.

    Raises:
        MissingDependencyError: it is not.
    """
    try:
        from paho.mqtt.enums import CallbackAPIVersion  # noqa: F401 - what version 1 did not have
    except ImportError:
        raise MissingDependencyError("MQTT", "paho-mqtt 2", "pip install 'edgeemo[mqtt]'") from None


class Client:
    """One connection, from its beginning to its end; belongs to one thread.

    Args:
        address: the broker.
        login: who we are.
        take: takes what arrives.
        confirm: takes each message that the broker confirmed.
    """

    def __init__(
        self, address: BrokerAddress, login: Login, *, take: Take, confirm: Callable[[Message], None]
    ) -> None:
        from paho.mqtt.client import Client as PahoClient
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        self._address, self._login, self._take, self._confirm = address, login, take, confirm
        self._answered = False
        self._refusal = ""
        self._error = ""
        self._answer_by_s = 0.0
        self._unconfirmed: dict[int, Message] = {}
        try:
            self._paho: PahoClient = PahoClient(
                CallbackAPIVersion.VERSION2,
                client_id=login.client_id,
                clean_session=True,
                protocol=MQTTProtocolVersion.MQTTv311,
                reconnect_on_failure=False,
            )
            will = login.will
            self._paho.will_set(will.topic, will.payload, qos=will.qos, retain=will.retained)
            if address.user:
                self._paho.username_pw_set(address.user, login.password)
        except ValueError as reason:
            raise InputError(f"MQTT cannot use this address or name: {reason}") from None
        if login.context is not None:
            self._paho.tls_set_context(login.context)
        self._paho.connect_timeout = CONNECT_S
        self._paho.on_connect = self._on_connect
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_publish
        self._paho.on_log = self._on_log

    @property
    def is_connected(self) -> bool:
        """Whether the broker has taken us."""
        return self._answered and not self._refusal

    @property
    def has_room(self) -> bool:
        """Whether a message given now leaves at once."""
        return self.is_connected and not self._paho.want_write()

    @property
    def has_room_for_events(self) -> bool:
        """Whether one more event may wait for its confirmation."""
        return len(self._unconfirmed) < MOST_IN_FLIGHT

    def open(self) -> None:
        """Connects; waits for the network and, where encrypted, for the handshake, but not for the answer.

        Raises:
            BrokerGoneError: there is no connection.
        """
        try:
            self._paho.connect(self._address.host, self._address.port, keepalive=KEEPALIVE_S)
        except (OSError, ValueError) as reason:  # ValueError: a name that IDNA cannot encode
            raise BrokerGoneError(
                _why(reason, encrypted=self._address.encrypted), lasting=isinstance(reason, ssl.SSLError)
            ) from None
        self._answer_by_s = time.monotonic() + ANSWER_S

    def turn(self, wake: socket.socket, timeout_s: float) -> None:
        """Waits for the network or for `wake`, at most `timeout_s`, and does what there is to do.

        Raises:
            BrokerGoneError: the connection has ended.
        """
        sock: Any = self._paho.socket()
        if sock is None:
            raise BrokerGoneError(self._why_closed(), lasting=bool(self._refusal))
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._paho.want_write() else 0)
        waiting = getattr(sock, "pending", lambda: 0)()  # what TLS has decrypted already wakes nobody
        with selectors.DefaultSelector() as selector:
            selector.register(sock, events)
            selector.register(wake, selectors.EVENT_READ)
            ready = {key.fileobj: mask for key, mask in selector.select(0.0 if waiting else timeout_s)}
        if wake in ready:
            wake.recv(4096)
        mask = ready.get(sock, 0)
        broken = False
        if mask & selectors.EVENT_READ or waiting:
            broken = self._read()
        if mask & selectors.EVENT_WRITE and not broken:
            broken = bool(self._paho.loop_write())
        if broken or self._paho.loop_misc() or self._paho.socket() is None:
            raise BrokerGoneError(self._why_closed(), lasting=bool(self._refusal))
        if not self._answered and time.monotonic() > self._answer_by_s:
            raise BrokerGoneError(f"it took the connection and did not answer within {ANSWER_S:g} s")

    def _read(self) -> bool:
        """Takes what has come; whether the connection is broken."""
        try:
            return bool(self._paho.loop_read())
        except (UnicodeDecodeError, struct.error, IndexError) as reason:
            raise BrokerGoneError(f"it sends what is no MQTT ({reason})", lasting=True) from None

    def publish(self, message: Message) -> None:
        """Sends a message, or as much of it as the network takes now."""
        sent = self._paho.publish(message.topic, message.payload, qos=message.qos, retain=message.retained)
        if message.qos:
            self._unconfirmed[sent.mid] = message

    def subscribe(self, topics: Sequence[str]) -> None:
        """Asks for everything on these topics; a broker that refuses some is left alone."""
        self._paho.subscribe([(topic, 1) for topic in topics])

    @property
    def is_idle(self) -> bool:
        """Whether all that was given has left and was confirmed."""
        return not self._paho.want_write() and not self._unconfirmed

    def disconnect(self) -> None:
        """Says good-bye, so that the will is not published."""
        self._paho.disconnect()

    def close(self) -> None:
        """Ends the connection at once, whatever the broker says."""
        sock: Any = self._paho.socket()
        self._paho.on_disconnect = None
        if sock is not None:
            sock.close()

    def _on_connect(self, client: object, data: object, flags: object, reason: Any, more: object) -> None:
        self._answered = True
        if reason.is_failure:
            self._refusal = f"it refuses us: {reason}"
            if str(reason) in ("Not authorized", "Bad user name or password"):
                user = f"user {self._address.user!r}" if self._address.user else "nobody by name"
                self._refusal += f" (we are {user}; check user and password)"

    def _on_message(self, client: object, data: object, message: Any) -> None:
        self._take(message.topic, message.payload, message.retain)

    def _on_publish(self, client: object, data: object, mid: int, reason: object, more: object) -> None:
        message = self._unconfirmed.pop(mid, None)
        if message is not None:
            self._confirm(message)

    def _on_log(self, client: object, data: object, level: int, text: str) -> None:
        if "socket" in text:
            self._error = text.partition("socket: ")[2]

    def _why_closed(self) -> str:
        if self._refusal:
            return self._refusal
        detail = f" ({self._error})" if self._error else ""
        if self._answered:
            name = f"; if that goes on, another client has our name, {self._login.client_id!r}"
            return f"the connection was lost{detail}" + (name if self._login.is_chosen else "")
        hint = (
            "it may ask for a certificate of ours" if self._address.encrypted else "a TLS port needs mqtts://"
        )
        return f"it closed the connection without an answer{detail}; {hint}"


def _why(reason: Exception, *, encrypted: bool) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted: {reason.verify_message or reason}; give the certificate of the "
            "authority that signed it"
        )
    if isinstance(reason, ssl.SSLError) or (encrypted and isinstance(reason, ConnectionResetError)):
        said = getattr(reason, "reason", None) or reason.strerror or str(reason)
        return f"no encrypted connection can be made: {said}; a port without TLS needs mqtt://"
    if isinstance(reason, socket.gaierror):
        return f"its name is not known here: {reason.strerror}"
    if isinstance(reason, TimeoutError):
        return f"it did not answer within {CONNECT_S:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    return str(reason)
