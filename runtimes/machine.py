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
VNNI = ("avx512_vnni", "avx_vnni")


def describe_cpu(cpuinfo: str) -> str:
    """Returns one line for the first processor of a ``/proc/cpuinfo`` text; empty where it names none.

    The instruction set counts too (as a checksum): virtual machines often share a model name, and int8 is
    fast or slow with one flag.
    """
    fields = _first_processor(cpuinfo)
    known = [name for name in NAMES if name in fields]
    parts = [fields[name] if name == "model name" else f"{name} {fields[name]}" for name in known]
    flags = " ".join(sorted(_flags(fields)))
    if flags:
        parts.append(f"flags {zlib.crc32(flags.encode()):08x}")
    return ", ".join(parts)


def int8_saturates(architecture: str, cpuinfo: str) -> bool:
    """Tells whether fast products of signed weights with unsigned activations may overflow on a CPU.

    They do on x86 without VNNI, which adds pairs of products in 16 bits (the instruction VPMADDUBSW). An
    x86 whose flags are not known counts as one without.

    Args:
        architecture: as `platform.machine` names it.
        cpuinfo: text of ``/proc/cpuinfo``, or empty.
    """
    x86 = architecture.lower() in ("x86_64", "amd64", "i386", "i686")
    return x86 and not _flags(_first_processor(cpuinfo)) & set(VNNI)


def _first_processor(cpuinfo: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, found, value = line.partition(":")
        if found:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _flags(fields: dict[str, str]) -> set[str]:
    return {word for name in FLAGS for word in fields.get(name, "").split()}


@lru_cache(maxsize=1)
def _cpuinfo() -> str:
    return CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else ""


@lru_cache(maxsize=1)
def cpu_model() -> str:
    """Returns the CPU of this machine in one line, the key of what was timed on it."""
    described = describe_cpu(_cpuinfo()) or platform.processor() or "unknown processor"
    return f"{platform.machine()}, {described}"


@lru_cache(maxsize=1)
def needs_exact_int8() -> bool:
    """Tells whether this machine's fast int8 products may overflow; see `int8_saturates`."""
    return int8_saturates(platform.machine(), _cpuinfo())


def cpu_count() -> int:
    """Returns how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
