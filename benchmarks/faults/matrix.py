"""Plays scenarios and adds up what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.faults.check import Finding, check
from benchmarks.faults.play import play
from benchmarks.faults.recording import Recording
from benchmarks.faults.scenario import Kind, Scenario
from edgeemo.bundle import Bundle

Case = tuple[str, Kind]
"""A modality and what fails of it."""


@dataclass
class Tally:
    """What came of many runs.

    Attributes:
        runs: how many.
        readings: made in all of them.
        findings: everything wrong, with its scenario.
        left_s: case -> seconds, in each run, from its start to the first reading that was right.
        back_s: case -> seconds, in each run, from its end to the first reading with the modality again.
    """

    runs: int = 0
    readings: int = 0
    findings: list[tuple[Scenario, Finding]] = field(default_factory=list)
    left_s: dict[Case, list[float]] = field(default_factory=dict)
    back_s: dict[Case, list[float]] = field(default_factory=dict)

    def count(self, what: str) -> int:
        """Returns how many findings are of a kind."""
        return sum(finding.what == what for _, finding in self.findings)


def run_matrix(
    scenarios: Sequence[Scenario], recording: Recording, bundle: Bundle, *, tell: Callable[[Scenario], None]
) -> Tally:
    """Plays and checks scenarios.

    Args:
        scenarios: what to play.
        recording: what is to be heard, seen and read.
        bundle: has an engine for every subset.
        tell: called after each run.
    """
    tally = Tally()
    for scenario in scenarios:
        played = play(scenario, recording, bundle)
        verdict = check(played)
        tally.runs += 1
        tally.readings += len(played.readings)
        tally.findings += [(scenario, finding) for finding in verdict.findings]
        for case, seconds in verdict.left_s.items():
            tally.left_s.setdefault(case, []).append(seconds)
        for case, seconds in verdict.back_s.items():
            tally.back_s.setdefault(case, []).append(seconds)
        tell(scenario)
    return tally
