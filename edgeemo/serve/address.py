"""Where clients reach us: the socket, its URL, and the names under which we may be asked for."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from collections.abc import Iterable

from edgeemo.errors import ServeError

_SEND_BUFFER = 64 * 1024
"""Bytes that the kernel keeps for a client that does not read. Its own choice grows to megabytes, which hides
for many minutes that nobody reads, and 256 such clients would take a gigabyte of it."""
_UNSENT_BYTES = 16 * 1024
"""Bytes that the kernel takes on before those before them are on their way: what waits longer is ours to
replace by something newer."""
_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h; Python has the name from 3.12 on
BACKLOG = 256
"""Connections that wait in the kernel."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host.rstrip(".").lower() == "localhost":
        return True
    address = ip_from_text(host)
    return address is not None and address.is_loopback


def ip_from_text(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Returns the IP address that is written there, None where it is a name."""
    try:
        return ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


def bind_socket(host: str, port: int) -> socket.socket:
    """Returns a socket that listens, before anything else is opened.

    Raises:
        ServeError: the port is in use, belongs to others, or the address is none of this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ServeError(
            f"there is no address {host!r} ({error.strerror or error}); give an IP address of this machine"
        ) from None
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if sys.platform == "linux":
            bound.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ServeError(_why_not_bound(host, port, error)) from None
    return bound


def _why_not_bound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use by another program; "
            "give another with --port, or --port 0 for one that is free"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not listen on port {port}; give one from 1024 on with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; 127.0.0.1 is for this machine, 0.0.0.0 for all"
    return f"cannot listen on port {port} of {host}: {error.strerror or error}"


def url_of(bound: socket.socket) -> str:
    """Returns the address to open in a browser on this machine."""
    host, port = bound.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = "127.0.0.1" if bound.family == socket.AF_INET else "::1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def names_of_ours(host: str, extra: Iterable[str] = ()) -> frozenset[str]:
    """Returns the names, in lower case, under which we may be asked for.

    IP addresses are not among them: a name that somebody else's DNS points at us is the danger (DNS
    rebinding), an address in the URL is not.
    """
    own = socket.gethostname().lower()
    return frozenset({"localhost", own, f"{own}.local", host.lower(), *(name.lower() for name in extra)})


def name_of_host_header(header: str) -> str:
    """Returns the name or IP address of a ``Host`` header, in lower case and without its port."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text
