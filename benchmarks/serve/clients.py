"""Clients of a live socket, in a process of their own; run as ``python -m benchmarks.serve.clients``.

Prints one JSON document at the end: what each client got, and how late.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import sys
import time
from base64 import b64encode
from dataclasses import asdict, dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

_READING = '{"type":"reading"'
_TIME = re.compile(r'"time_s":([0-9.]+)')
_LATENCY = re.compile(r'"latency_ms":([0-9.]+)\}$')
_SLOW_S = 0.7  # four messages come a second


@dataclass
class Heard:
    """What one client got.

    Attributes:
        kind: ``reading`` (as fast as it can) or ``slow``.
        times_s: times of the readings that it got.
        arrived_s: when they came, on the monotonic clock.
        latencies_ms: what the server said of each.
        messages: of any kind.
        cut_off: times that the server ended the connection.
    """

    kind: str
    times_s: list[float] = field(default_factory=list)
    arrived_s: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    messages: int = 0
    cut_off: int = 0


async def read_all(url: str, heard: Heard, *, until_s: float, pause_s: float) -> None:
    """Reads until a time; a client that was cut off comes back."""
    while time.monotonic() < until_s:
        try:
            waiting = 1 if pause_s else 16
            async with connect(
                url, proxy=None, compression=None, open_timeout=30, close_timeout=1, max_queue=waiting
            ) as live:
                await _read(live, heard, until_s=until_s, pause_s=pause_s)
        except (ConnectionClosed, OSError):
            heard.cut_off += 1
            await asyncio.sleep(1.0)


async def _read(live: ClientConnection, heard: Heard, *, until_s: float, pause_s: float) -> None:
    while (left_s := until_s - time.monotonic()) > 0:
        try:
            text = str(await asyncio.wait_for(live.recv(), left_s))
        except asyncio.TimeoutError:
            return
        heard.messages += 1
        if text.startswith(_READING):
            heard.arrived_s.append(time.monotonic())
            heard.times_s.append(float(_found(_TIME, text)))
            heard.latencies_ms.append(float(_found(_LATENCY, text)))
        if pause_s:
            await asyncio.sleep(pause_s)


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    if match is None:
        raise ValueError(f"no {pattern.pattern} in {text[:200]}")
    return match.group(1)


def never_read(host: str, port: int) -> socket.socket:
    """Returns a connection that has asked for the live messages and reads none of them."""
    raw = socket.create_connection((host, port), 30)
    key = b64encode(os.urandom(16)).decode()
    raw.sendall(
        f"GET /v1/live HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    return raw


async def listen(host: str, port: int, *, clients: int, slow: int, deaf: int, seconds: float) -> list[Heard]:
    """Returns what every client got in so many seconds; those that never read got nothing."""
    url = f"ws://{host}:{port}/v1/live"
    silent = [never_read(host, port) for _ in range(deaf)]
    until_s = time.monotonic() + seconds
    heard = [Heard("reading") for _ in range(clients)] + [Heard("slow") for _ in range(slow)]
    await asyncio.gather(
        *(read_all(url, one, until_s=until_s, pause_s=_SLOW_S * (one.kind == "slow")) for one in heard)
    )
    for raw in silent:
        raw.close()
    return heard


def main() -> int:
    """Runs the clients."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve.clients", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    for name in ("clients", "slow", "deaf"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    heard = asyncio.run(
        listen(
            args.host, args.port, clients=args.clients, slow=args.slow, deaf=args.deaf, seconds=args.seconds
        )
    )
    json.dump([asdict(one) for one in heard], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
