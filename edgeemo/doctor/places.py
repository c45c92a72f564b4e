"""The folders that edgeemo writes to, and whether it can."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from edgeemo.bundle.place import data_folder
from edgeemo.doctor.report import Finding, Severity, without_private
from edgeemo.errors import EdgeEmoError
from edgeemo.runtimes.cache import cache_folder

_LEAST_FREE = 200_000_000
"""Bytes; plans of all engines and a copy of a bundle take less."""


def examine_places() -> tuple[dict[str, str], list[Finding]]:
    """Returns each folder with what can be done in it, and what to do where that is too little."""
    facts: dict[str, str] = {}
    findings: list[Finding] = []
    places = {
        "cache (timings, plans)": (cache_folder, "EDGEEMO_CACHE"),
        "data (updated bundles)": (data_folder, "EDGEEMO_DATA"),
    }
    for name, (find, variable) in places.items():
        try:
            folder = find()
        except (OSError, RuntimeError, EdgeEmoError) as error:
            facts[name] = f"none: {error}"
            findings.append(
                Finding(Severity.PROBLEM, f"no folder for {name}: {error}", f"set {variable} to a folder")
            )
            continue
        shown = without_private(str(folder))
        trouble = _trouble(folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        facts[name] = f"{shown}, {size / 1e6:.1f} MB" + (f", {trouble}" if trouble else ", writable")
        if trouble:
            findings.append(
                Finding(
                    Severity.PROBLEM,
                    f"{shown} is {trouble}: {name} is made anew at every start",
                    f"make it writable for this user, or set {variable} to a folder that is",
                )
            )
    return facts, findings


def _trouble(folder: Path) -> str:
    """Returns what is wrong with a folder, empty where files can be written; makes no folder."""
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        return f"not a folder ({without_private(str(nearest))} is a file)"
    if nearest == folder:
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            return f"not writable ({error.strerror})"
    elif not os.access(nearest, os.W_OK):
        return f"not there and cannot be made in {without_private(str(nearest))}"
    free = shutil.disk_usage(nearest).free
    return f"nearly full ({free / 1e6:.0f} MB left)" if free < _LEAST_FREE else ""
