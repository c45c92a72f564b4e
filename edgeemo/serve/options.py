"""How a session is served: address, token, limits."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from edgeemo.errors import InputError
from edgeemo.serve.address import is_loopback
from edgeemo.serve.token import LEAST_TOKEN

SPARE_CONNECTIONS = 64
"""Connections beside those of the page's live sockets: the page's own files, REST, Prometheus."""
_SPARE_FILES = 128  # for the session itself: engines, devices, the bundle


@dataclass(frozen=True)
class ServeOptions:
    """How a session is served.

    Attributes:
        host: the address to listen on; a name or an IP address.
        port: 0 takes one that is free.
        token: what clients must show; None lets everybody in, on loopback only.
        names: further names under which clients may ask, such as that of a proxy in front.
        notice: what people must acknowledge before any sensor opens; None where they are told elsewhere.
        preview: whether the camera's picture is shown.
        max_clients: live sockets at once.
        send_deadline_s: how long a client may take to accept a message before it is cut off.
        requests_per_s: requests that one client may make a second, in the long run.

    Raises:
        InputError: a value that cannot be used, or an address for others than this machine without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    names: tuple[str, ...] = ()
    notice: str | None = None
    preview: bool = False
    max_clients: int = 256
    send_deadline_s: float = 10.0
    requests_per_s: float = 50.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"a port is 0 to 65535, got {self.port}; 0 takes one that is free")
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"{self.host} can be reached from other machines, so clients must show a token: write one of "
                f"at least {LEAST_TOKEN} characters into a file that only you can read and give it with "
                "--token-file FILE, or set EDGEEMO_TOKEN"
            )
        if self.max_clients < 1:
            raise InputError(f"max_clients must be at least 1, got {self.max_clients}")
        files = _most_files()
        most = files - _SPARE_FILES - SPARE_CONNECTIONS
        if self.max_clients > most:
            raise InputError(
                f"{self.max_clients} clients need more than the {files} files that this process may open; "
                f"give at most {most}, or raise the limit with ulimit -n"
            )
        for name in ("send_deadline_s", "requests_per_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, got {getattr(self, name)}")


def _most_files() -> float:
    """Returns how many files this process may have open; sockets are files, but on Windows."""
    if sys.platform == "win32":
        return math.inf
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if files == resource.RLIM_INFINITY else files
