"""Processor time and memory of a process with all its children, from Linux's ``/proc``."""

from __future__ import annotations

import os
from pathlib import Path

from edgeemo.evaluation.footprint import memory_of

_PROC = Path("/proc")


def cpu_seconds(stat: str, *, tick_hz: int) -> float:
    """Returns the processor time in a ``/proc/PID/stat`` line, ended and awaited children included.

    Args:
        stat: the line, see proc(5); the name of the process may hold spaces and brackets.
        tick_hz: ticks a second.
    """
    fields = stat.rpartition(")")[2].split()
    return sum(int(fields[place]) for place in (11, 12, 13, 14)) / tick_hz


def parent_of(stat: str) -> int:
    """Returns the number of the parent in a ``/proc/PID/stat`` line."""
    return int(stat.rpartition(")")[2].split()[1])


def tree(root: int) -> dict[int, str]:
    """Returns the ``stat`` line of a process and of all that it started, by number."""
    lines: dict[int, str] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                lines[int(folder.name)] = (folder / "stat").read_text()
            except OSError:
                continue  # it has just ended
    found = {root: lines[root]}
    grown = True
    while grown:
        more = {pid: line for pid, line in lines.items() if pid not in found and parent_of(line) in found}
        found |= more
        grown = bool(more)
    return found


def tree_cpu_s(root: int) -> float:
    """Returns the processor seconds that a process and its children have used so far.

    A child that ends keeps counting: what it used goes over to the parent that waits for it.
    """
    tick_hz = os.sysconf("SC_CLK_TCK")
    return sum(cpu_seconds(line, tick_hz=tick_hz) for line in tree(root).values())


def pss_bytes(root: int) -> dict[int, int]:
    """Returns the proportional set size of a process and each of its children, by number."""
    found = {}
    for pid in tree(root):
        memory = memory_of(pid)
        if memory is not None and memory.pss:
            found[pid] = memory.pss
    return found
