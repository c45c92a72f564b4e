"""What this machine is, as far as the speed of an engine depends on it."""

from __future__ import annotations

import os
import platform
import zlib
from functools import lru_cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
NAMES = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU variant")
FLAGS = ("flags", "Features")


def describe_cpu(cpuinfo: str) -> str:
    """Returns one line for the first processor of a ``/proc/cpuinfo`` text; empty where it names none.

    The instruction set counts too (as a checksum): virtual machines often share a model name, and int8 is
    fast or slow with one flag.
    """
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, found, value = line.partition(":")
        if found:
            fields.setdefault(name.strip(), value.strip())
    parts = [
        f"{name} {fields[name]}" if name != "model name" else fields[name] for name in NAMES if name in fields
    ]
    flags = " ".join(sorted(word for name in FLAGS for word in fields.get(name, "").split()))
    if flags:
        parts.append(f"flags {zlib.crc32(flags.encode()):08x}")
    return ", ".join(parts)


@lru_cache(maxsize=1)
def cpu_model() -> str:
    """Returns the CPU of this machine in one line, the key of what was timed on it."""
    described = ""
    if CPUINFO.exists():
        described = describe_cpu(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    return f"{platform.machine()}, {described or platform.processor() or 'unknown processor'}"


def cpu_count() -> int:
    """Returns how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
