"""Where a broker is and which topic is ours: ``mqtt://user@host:port/topic``."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from edgeemo.errors import InputError

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_MOST_TOPIC = 1024  # bytes; MQTT itself allows 65535, brokers often less


@dataclass(frozen=True)
class BrokerAddress:
    """A broker and the topic under which everything is published.

    Attributes:
        host: name or address.
        port: 1 to 65535.
        topic: without a slash at either end.
        user: empty where the broker wants none.
        encrypted: whether the connection is TLS.
    """

    host: str
    port: int
    topic: str
    user: str = ""
    encrypted: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_from_url(url: str) -> BrokerAddress:
    """Returns what a URL says.

    ``mqtt://`` is plain, port 1883; ``mqtts://`` is TLS, port 8883. Without a topic it is
    ``edgeemo/<name of this machine>``.

    Raises:
        InputError: another scheme, no host, a password (which every user of the machine could read in the
            list of processes), a topic that MQTT does not allow; the message says which.
    """
    shown = _masked(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as reason:
        raise InputError(f"{shown!r} is no MQTT address: {reason}; {_EXAMPLE}") from None
    if parts.password is not None:
        raise InputError(
            "a password in an MQTT address shows in the list of processes and in the shell's history; "
            f"write mqtt://{parts.username}@{parts.hostname} and put it into the environment variable "
            "EDGEEMO_MQTT_PASSWORD or into a file"
        )
    if parts.scheme not in _PORTS:
        raise InputError(
            f"{shown!r} is no MQTT address: it starts with none of mqtt://, mqtts://; {_EXAMPLE}"
        )
    if not parts.hostname:
        raise InputError(f"{shown!r} names no host; {_EXAMPLE}")
    if port == 0:
        raise InputError(f"{url!r} names port 0; a broker listens on 1 to 65535; {_EXAMPLE}")
    return BrokerAddress(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        topic=_topic_of(url, parts),
        user=unquote(parts.username or ""),
        encrypted=parts.scheme == "mqtts",
    )


def check_topic(topic: str, *, what: str = "a topic") -> str:
    """Returns a topic that can be published to.

    Raises:
        InputError: it is empty, has an empty level, wildcards, or signs that MQTT forbids.
    """
    if not topic or "" in topic.split("/"):
        raise InputError(f"{what} has words between its slashes, such as home/kitchen; got {topic!r}")
    if set(topic) & set("+#") or topic.startswith("$") or any(map(_is_control, topic)):
        raise InputError(
            f"{what} has neither + nor # nor control characters and does not start with $; got {topic!r}"
        )
    if len(topic.encode("utf8", errors="replace")) > _MOST_TOPIC:
        raise InputError(f"{what} has at most {_MOST_TOPIC} bytes; got {len(topic)} signs")
    return topic


def _is_control(sign: str) -> bool:
    """Whether a broker may close the connection for it (MQTT 3.1.1, 1.5.3)."""
    return sign < " " or "\x7f" <= sign <= "\x9f"


def _topic_of(url: str, parts: SplitResult) -> str:
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise InputError(f"{url!r}: neither ? nor # belongs into an MQTT address; {_EXAMPLE}")
    topic = unquote(parts.path).removeprefix("/").removesuffix("/")
    return check_topic(topic or f"edgeemo/{socket.gethostname()}", what="the topic of an MQTT address")


def _masked(url: str) -> str:
    """Returns an address, however wrong, whose user and password, if any, are not repeated."""
    scheme, separator, _ = url.partition("://")
    before, _, rest = url.rpartition("@")
    return f"{scheme + separator if separator else ''}...@{rest}" if before else url


_EXAMPLE = "write mqtt://host/topic or mqtts://user@host:8883/topic"
