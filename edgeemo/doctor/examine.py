"""The examination: every part of the machine asked, what is wrong put first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeemo.doctor.libraries import conflicts, installed_versions
from edgeemo.doctor.machine import examine_machine
from edgeemo.doctor.places import examine_places
from edgeemo.doctor.report import BackendTrial, Finding, Report, Severity
from edgeemo.doctor.trial import TRIAL_S, try_backend
from edgeemo.runtimes.open import BACKENDS
from edgeemo.sensors import DeviceGroup, list_devices

Say = Callable[[str, int, int], object]


def examine(bundle: Path, *, limit_s: float = TRIAL_S, say: Say | None = None) -> Report:
    """Returns everything that there is to know for a bug report; takes seconds, minutes where plans build.

    Args:
        bundle: whose first engine is run on every backend.
        limit_s: how long one backend may take.
        say: told what is examined, its number and how many there are.
    """
    steps = ("machine", "libraries", "sensors", "places", *BACKENDS)

    def tell(step: str) -> None:
        if say is not None:
            say(step, steps.index(step), len(steps))

    tell("machine")
    machine, findings = examine_machine()
    tell("libraries")
    libraries = installed_versions()
    findings += conflicts(libraries)
    tell("sensors")
    groups = list_devices()
    findings += _missing(groups)
    tell("places")
    places, troubles = examine_places()
    findings += troubles
    trials = []
    for backend in BACKENDS:
        tell(backend)
        trials.append(try_backend(backend, bundle, limit_s=limit_s))
    findings += _silent(trials)
    return Report(
        machine=machine,
        libraries=libraries,
        backends=trials,
        sensors={group.kind: _sentence(group) for group in groups},
        places=places,
        findings=sorted(findings, key=lambda finding: finding.severity is not Severity.PROBLEM),
    )


def _sentence(group: DeviceGroup) -> str:
    """Returns how many devices work; never their names, which may be a person's."""
    return f"{'works' if group.works else 'does not work'}: {group.why}"


def _missing(groups: list[DeviceGroup]) -> list[Finding]:
    return [
        Finding(Severity.HINT, f"{group.kind}: {group.why}", group.install)
        for group in groups
        if group.install
    ]


def _silent(trials: list[BackendTrial]) -> list[Finding]:
    if any(trial.works for trial in trials):
        return []
    return [
        Finding(
            Severity.PROBLEM,
            "no engine runs on any backend here: " + "; ".join(f"{t.backend}: {t.detail}" for t in trials),
            "pip install 'edgeemo[cpu]'; if it is installed, open an issue with this report",
        )
    ]
