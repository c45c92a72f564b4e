"""Readings on their way to an MQTT broker: ``--mqtt`` of commands that run a session."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgeemo.errors import InputError
from edgeemo.session import Reading, Session

if TYPE_CHECKING:
    from edgeemo.mqtt import Publisher

PASSWORD_VARIABLE = "EDGEEMO_MQTT_PASSWORD"  # noqa: S105 - its name, not what it holds
_START_S = 3.0  # for the broker to answer before a recording is played as fast as possible
_FLUSH_S = 2.0


def add_mqtt_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--mqtt`` and what belongs to it."""
    group = parser.add_argument_group("MQTT")
    group.add_argument(
        "--mqtt",
        metavar="URL",
        help="publish readings, states and events: mqtt://user@host:port/topic, or mqtts:// with TLS; the "
        f"password comes from the environment variable {PASSWORD_VARIABLE} or from --mqtt-password-file",
    )
    group.add_argument("--mqtt-password-file", metavar="FILE", help="its first line is the user's password")
    group.add_argument(
        "--mqtt-ca", metavar="FILE", help="certificates to trust, PEM (default those of the system)"
    )
    group.add_argument("--mqtt-cert", metavar="FILE", help="our own certificate, PEM, if the broker asks")
    group.add_argument("--mqtt-key", metavar="FILE", help="its key, PEM, without a passphrase")
    group.add_argument("--mqtt-client-id", metavar="NAME", help="our name on the broker (default by chance)")
    group.add_argument(
        "--mqtt-discovery",
        metavar="PREFIX",
        default="homeassistant",
        help="where Home Assistant looks for devices; none for no discovery (default homeassistant)",
    )
    group.add_argument(
        "--mqtt-commands",
        action="store_true",
        help="let who may publish to TOPIC/mute/MODALITY mute sensors and switch them on again",
    )


def misuse_of_mqtt_options(args: argparse.Namespace) -> str:
    """Returns what is wrong with the combination of options, in one sentence; empty if nothing is."""
    names = ("password_file", "ca", "cert", "key", "client_id", "commands")
    given = [name for name in names if getattr(args, f"mqtt_{name}")]
    if given and not args.mqtt:
        return f"--mqtt-{given[0].replace('_', '-')} belongs to --mqtt URL; name the broker"
    return ""


@contextmanager
def publisher_for(args: argparse.Namespace, session: Session) -> Iterator[Publisher | None]:
    """Gives the publisher that `add_mqtt_options` parsed, None without ``--mqtt``; closes it at the end.

    Raises:
        InputError, MissingDependencyError: it cannot be made; see `Publisher`.
    """
    if args.mqtt is None:
        yield None
        return
    from edgeemo.mqtt import Publisher, Tls

    files = Tls(args.mqtt_ca, args.mqtt_cert, args.mqtt_key)
    with Publisher(
        args.mqtt,
        session,
        password=_password(args),
        tls=None if files == Tls() else files,
        client_id=args.mqtt_client_id,
        discovery=None if args.mqtt_discovery == "none" else args.mqtt_discovery,
        commands=args.mqtt_commands,
        tell=lambda sentence: print(f"edgeemo {args.command}: {sentence}", file=sys.stderr),
    ) as publisher:
        yield publisher
    stats = publisher.stats
    if stats.dropped_readings or stats.dropped_events:
        print(
            f"edgeemo {args.command}: {stats.dropped_readings} of {stats.readings} readings and "
            f"{stats.dropped_events} events were not sent to {publisher.address}",
            file=sys.stderr,
        )


def published(
    readings: Iterable[Reading], publisher: Publisher | None, *, patient: bool = False
) -> Iterator[Reading]:
    """Passes readings on and publishes them.

    Args:
        readings: of the session.
        publisher: None where there is none.
        patient: wait for a broker that is there; for recordings that are played as fast as possible, whose
            readings would otherwise come faster than a network takes them.
    """
    if publisher is None:
        yield from readings
        return
    if patient:
        publisher.wait_connected(_START_S)
    for reading in readings:
        publisher.publish(reading)
        if patient and publisher.stats.connected:
            publisher.flush(_FLUSH_S)
        yield reading


def _password(args: argparse.Namespace) -> str | None:
    if args.mqtt_password_file is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    try:
        lines = Path(args.mqtt_password_file).read_text(encoding="utf8").splitlines()
    except (OSError, UnicodeDecodeError) as reason:
        why = reason.strerror if isinstance(reason, OSError) else "it is no text"
        raise InputError(f"{args.mqtt_password_file} with the MQTT password cannot be read: {why}") from None
    if not lines or not lines[0]:
        raise InputError(f"the first line of {args.mqtt_password_file} is empty; write the password there")
    return lines[0]
