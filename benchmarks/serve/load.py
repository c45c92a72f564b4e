"""Starts the server and its clients, watches the server meanwhile, and works out what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.session.tree import cpu_seconds
from edgeemo.evaluation.footprint import memory_of
from edgeemo.shipped import RECORDING

ROOT = Path(__file__).resolve().parents[2]
_SETTLE_S = 5.0
_LOOK_S = 2.0
WARM_UP = 0.5
"""Part of the run after which memory must be flat: the history and the events are full by then."""


@dataclass(frozen=True)
class Delivery:
    """What the clients that read as fast as they can got.

    Attributes:
        expected: readings that they should have got: every hop from a client's first to its last.
        delivered: readings that they got.
        fewest_share: delivered of expected, of the client that got least.
        late_ms: from the hop to the client: p50, p95, p99, most.
        cut_off: times that one of them was cut off.
    """

    expected: int
    delivered: int
    fewest_share: float
    late_ms: dict[str, float]
    cut_off: int


@dataclass(frozen=True)
class Load:
    """What a run gave.

    Attributes:
        seconds: under load.
        clients: that read as fast as they can.
        slow: that read more slowly than messages come.
        deaf: that never read.
        delivery: to those that read.
        slow_delivered: share of the run's readings that slow ones got.
        slow_cut_off: times that a slow one was cut off, and came back.
        hops: readings that the session made under load.
        late_hops: hops that it left out.
        missed: readings that were dropped before they were told.
        deaf_cut_off: live sockets that the server cut off.
        cpu_alone: processors that the server kept busy without clients.
        cpu_loaded: the same under load.
        memory: (seconds, bytes) PSS of the server under load.
    """

    seconds: float
    clients: int
    slow: int
    deaf: int
    delivery: Delivery
    slow_delivered: float
    slow_cut_off: int
    hops: int
    late_hops: int
    missed: int
    deaf_cut_off: int
    cpu_alone: float
    cpu_loaded: float
    memory: tuple[tuple[float, int], ...]

    @property
    def steady(self) -> tuple[tuple[float, int], ...]:
        """The memory after the warm-up."""
        return tuple(sample for sample in self.memory if sample[0] >= WARM_UP * self.seconds)

    @property
    def growth_bytes_per_min(self) -> float:
        """The slope of a line through the memory after the warm-up."""
        times_s, sizes = zip(*self.steady, strict=True)
        return float(np.polyfit(times_s, sizes, 1)[0]) * 60.0


def measure(*, clients: int, slow: int, deaf: int, seconds: float, alone_s: float) -> Load:
    """Returns what came of so many seconds of load on a server of its own."""
    with running_server(clients + slow + deaf + 8) as (process, url):
        port = int(url.rstrip("/").rpartition(":")[2])
        time.sleep(min(_SETTLE_S, alone_s))
        cpu_alone = cpu_of(process.pid, alone_s)
        before = stats_of(url)
        words = ["--port", port, "--clients", clients, "--slow", slow, "--deaf", deaf, "--seconds", seconds]
        command = [sys.executable, "-m", "benchmarks.serve.clients", *map(str, words)]
        memory: list[tuple[float, int]] = []
        ended = threading.Event()
        began_s, cpu_s = time.monotonic(), busy_s(process.pid)
        watching = threading.Thread(target=watch_memory, args=(process.pid, memory, ended))
        watching.start()
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        finally:
            ended.set()
            watching.join()
        cpu_loaded = (busy_s(process.pid) - cpu_s) / (time.monotonic() - began_s)
        after = stats_of(url)
        cut_off = figure_of(url, "edgeemo_clients_cut_off_total")
    heard = json.loads(done.stdout)
    hop_s = 0.5
    lazy = [one for one in heard if one["kind"] == "slow"]
    return Load(
        seconds=seconds,
        clients=clients,
        slow=slow,
        deaf=deaf,
        delivery=delivery_of([one for one in heard if one["kind"] == "reading"], hop_s=hop_s),
        slow_delivered=share_of(lazy, hops=seconds / hop_s),
        slow_cut_off=sum(one["cut_off"] for one in lazy),
        hops=after["hops"] - before["hops"],
        late_hops=after["late_hops"] - before["late_hops"],
        missed=after["missed_by_callbacks"] - before["missed_by_callbacks"],
        deaf_cut_off=int(cut_off),
        cpu_alone=cpu_alone,
        cpu_loaded=cpu_loaded,
        memory=tuple(memory),
    )


@contextmanager
def running_server(most: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Gives a served demo recording, played again and again at its own pace, and its URL."""
    command = [sys.executable, "-m", "edgeemo", "serve", "--port", "0", "--variant", "int8"]
    command += ["--media", str(RECORDING), "--loop", "--max-clients", str(most)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield process, line.split()[2]
        finally:
            process.terminate()
            process.wait(10)


def delivery_of(heard: Sequence[dict[str, Any]], *, hop_s: float) -> Delivery:
    """Returns what clients got that read as fast as they can.

    The session's clock is matched to that of the clients at the quickest delivery of all, which so counts as
    immediate; both run at the same pace.
    """
    arrived_s, times_s, latencies_ms = (
        np.concatenate([np.asarray(one[key], float) for one in heard])
        for key in ("arrived_s", "times_s", "latencies_ms")
    )
    offset_s = (arrived_s - times_s - latencies_ms / 1000.0).min()
    late_ms = (arrived_s - times_s - offset_s) * 1000.0
    shares = [(expected_of(one, hop_s=hop_s), len(set(one["times_s"]))) for one in heard]
    return Delivery(
        expected=sum(expected for expected, _ in shares),
        delivered=sum(delivered for _, delivered in shares),
        fewest_share=min(delivered / expected for expected, delivered in shares),
        late_ms={
            **{f"p{q}": round(float(np.percentile(late_ms, q)), 2) for q in (50, 95, 99)},
            "most": round(float(late_ms.max()), 2),
        },
        cut_off=sum(one["cut_off"] for one in heard),
    )


def expected_of(one: dict[str, Any], *, hop_s: float) -> int:
    """Returns how many hops lie between a client's first and last reading, both counted."""
    times_s = one["times_s"]
    return round((times_s[-1] - times_s[0]) / hop_s) + 1 if times_s else 1


def share_of(heard: Sequence[dict[str, Any]], *, hops: float) -> float:
    """Returns the share of so many readings that clients got."""
    return sum(len(set(one["times_s"])) for one in heard) / (hops * len(heard)) if heard else 0.0


def watch_memory(pid: int, memory: list[tuple[float, int]], ended: threading.Event) -> None:
    """Appends (seconds, PSS) until told to end."""
    began_s = time.monotonic()
    while not ended.wait(_LOOK_S):
        found = memory_of(pid)
        if found is not None:
            memory.append((round(time.monotonic() - began_s, 1), found.pss))


def cpu_of(pid: int, seconds: float) -> float:
    """Returns how many processors a process keeps busy over the next seconds."""
    began_s, busy = time.monotonic(), busy_s(pid)
    time.sleep(seconds)
    return (busy_s(pid) - busy) / (time.monotonic() - began_s)


def busy_s(pid: int) -> float:
    """Returns the processor time that a process has used."""
    return cpu_seconds(
        Path(f"/proc/{pid}/stat").read_text(encoding="ascii"), tick_hz=os.sysconf("SC_CLK_TCK")
    )


def stats_of(url: str) -> dict[str, Any]:
    """Returns the session's figures."""
    return dict(json.loads(_text_of(f"{url}v1/stats")))


def figure_of(url: str, name: str) -> float:
    """Returns one figure of ``/metrics``."""
    lines = _text_of(f"{url}metrics").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def _text_of(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - our own http:// address
        return str(answer.read().decode("utf-8"))
