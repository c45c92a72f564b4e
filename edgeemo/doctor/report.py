"""The report: plain data that may be pasted into a bug report, with nothing private in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

Facts = Mapping[str, str]
"""Name -> value, in the order in which a person reads them."""


class Severity(str, Enum):
    """How much a finding matters."""

    PROBLEM = "problem"
    """Something that was wanted does not work."""
    HINT = "hint"
    """Everything works; it could work better."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """One thing to know, and what to do about it.

    Attributes:
        severity: see `Severity`.
        what: what was seen, in a sentence with its values.
        do: what to do about it, with the exact command where there is one.
    """

    severity: Severity
    what: str
    do: str


@dataclass(frozen=True)
class BackendTrial:
    """What came of really running an engine on a backend.

    Attributes:
        backend: its name, such as ``cpu`` or ``tensorrt``.
        works: whether an engine ran and gave the answers that the bundle keeps.
        detail: where it works, what ran and how fast; where not, why not.
        median_ms: time of one call, None where it does not work.
        deviation: largest difference from the bundle's own answers; None where it does not work.
    """

    backend: str
    works: bool
    detail: str
    median_ms: float | None = None
    deviation: float | None = None


@dataclass(frozen=True)
class Report:
    """Everything that was found out.

    Attributes:
        machine: what this machine is.
        libraries: what is installed, in which version; only what edgeemo may use.
        backends: one trial each, in order of preference.
        sensors: kind -> what works and what is missing.
        places: folders that edgeemo writes to, and whether it can.
        findings: what to do, problems first.
    """

    machine: Facts
    libraries: Facts
    backends: Sequence[BackendTrial]
    sensors: Facts
    places: Facts
    findings: Sequence[Finding]

    @property
    def works(self) -> bool:
        """Whether an engine runs on any backend at all."""
        return any(trial.works for trial in self.backends)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as plain data for ``json.dumps``."""
        return {
            "machine": dict(self.machine),
            "libraries": dict(self.libraries),
            "backends": [dict(vars(trial)) for trial in self.backends],
            "sensors": dict(self.sensors),
            "places": dict(self.places),
            "findings": [{"severity": str(f.severity), "what": f.what, "do": f.do} for f in self.findings],
        }


def without_private(text: str, *, home: Path | None = None) -> str:
    """Returns `text` with the home folder as ``~`` and user names in other home folders left out.

    Args:
        text: what a library or the system said.
        home: None for the home folder of this user.
    """
    try:
        own = str(home or Path.home())
    except RuntimeError:  # there is no home folder
        own = ""
    if len(own) > 1:
        text = text.replace(own, "~")
    return re.sub(r"(/home/|/Users/|\\Users\\)[^/\\\s:'\"]+", r"\1USER", text)
