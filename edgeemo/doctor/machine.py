"""What this machine is: processor, memory, system, and a GPU where there is one."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from edgeemo.doctor.jetson import find_jetson
from edgeemo.doctor.report import Finding, Severity
from edgeemo.runtimes.machine import cpu_count, cpu_model

_ASK_S = 10.0
_NVIDIA_VERSION = Path("/proc/driver/nvidia/version")
_SMI = ("name", "driver_version", "compute_cap", "memory.total", "compute_mode")


def examine_machine() -> tuple[dict[str, str], list[Finding]]:
    """Returns facts about the machine, and hints where it could run faster."""
    facts = {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": f"{platform.python_version()} ({sys.implementation.name})",
        "processor": f"{cpu_model()}; {cpu_count()} usable",
        "memory": _memory(),
    }
    findings: list[Finding] = []
    jetson = find_jetson()
    if jetson is not None:
        facts["jetson"] = jetson.model
        facts["jetpack"] = f"{jetson.jetpack or 'unknown'} (L4T {jetson.l4t or 'unknown'})"
        facts["power mode"] = jetson.power_mode or "unknown"
        if jetson.power_mode not in ("", "0"):
            findings.append(
                Finding(
                    Severity.HINT,
                    f"power mode {jetson.power_mode} is not the fastest",
                    "sudo nvpmodel -m 0 && sudo jetson_clocks, where the power supply allows it",
                )
            )
    gpus, why = ask_gpus()
    facts["gpu"] = "; ".join(gpus) if gpus else why
    return facts, findings


def ask_gpus() -> tuple[list[str], str]:
    """Returns one line for each NVIDIA GPU as its driver names it, or none and why."""
    program = shutil.which("nvidia-smi")
    if program is None:
        driver = _text(_NVIDIA_VERSION)
        found = re.search(r"Kernel Module\D+([\d.]+)", driver)
        return [], f"driver {found[1]}, no nvidia-smi" if found else "no NVIDIA driver"
    command = [program, f"--query-gpu={','.join(_SMI)}", "--format=csv,noheader"]
    try:
        child = subprocess.run(command, capture_output=True, timeout=_ASK_S, check=False, text=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi does not answer: {error}"
    if child.returncode:
        said = (child.stdout + child.stderr).strip().splitlines()
        return [], f"nvidia-smi failed: {said[0] if said else child.returncode}"
    return [
        "{}, driver {}, compute capability {}, {}, compute mode {}".format(*fields)
        for line in child.stdout.splitlines()
        if len(fields := [part.strip() for part in line.split(",")]) == len(_SMI)
    ], ""


def _memory() -> str:
    found = re.search(r"MemTotal:\s+(\d+) kB", _text(Path("/proc/meminfo")))
    return f"{int(found[1]) * 1024 / 1e9:.1f} GB" if found else "unknown"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
