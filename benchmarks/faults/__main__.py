"""``python -m benchmarks.faults``: plays the fault matrix, writes ``benchmarks/faults/faults.{json,md}``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.faults.matrix import Case, Tally, run_matrix
from benchmarks.faults.play import settings_of
from benchmarks.faults.recording import load_recording
from benchmarks.faults.scenario import MODALITIES, Kind, pair_scenarios, single_scenarios, triple_scenarios
from benchmarks.faults.truth import effects
from benchmarks.report import Report, Table, write_report
from edgeemo.bundle import Bundle
from edgeemo.modality import TEXT
from edgeemo.session import Settings
from edgeemo.shipped import DEFAULT_BUNDLE

HERE = Path(__file__).resolve().parent
_SHOWN = 30


def main() -> int:
    """Runs faults alone, in pairs and of all modalities; fails where a reading was not what it must be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="default: the one that ships")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="times, each with other moments")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; default: 0")
    parser.add_argument("--out", type=Path, default=HERE, help="default: benchmarks/faults")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # the licence notice, and a line for each fault
    bundle, recording = Bundle.open(args.bundle), load_recording()
    seeds = range(args.seed, args.seed + args.rounds)
    scenarios = [
        scenario
        for seed in seeds
        for make in (single_scenarios, pair_scenarios, triple_scenarios)
        for scenario in make(seed=seed)
    ]
    begun = time.perf_counter()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("faults", total=len(scenarios))
        tally = run_matrix(scenarios, recording, bundle, tell=lambda _: progress.advance(task))
    report = make_report(tally, settings_of(bundle), took_s=time.perf_counter() - begun)
    write_report(report, bundle, folder=args.out)
    print((args.out / "faults.md").read_text(encoding="utf-8"))
    for scenario, finding in tally.findings[:_SHOWN]:
        print(f"{scenario} (seed {scenario.seed}): {finding}")
    return 1 if tally.findings else 0


def make_report(tally: Tally, settings: Settings, *, took_s: float) -> Report:
    """Returns the tables of a run of the matrix."""
    counts = {
        "runs": tally.runs,
        "readings": tally.readings,
        "stale readings": tally.count("stale"),
        "wrong-subset readings": tally.count("wrong subset"),
        "readings lost, doubled or out of order": tally.count("time"),
        "states whose words do not fit": tally.count("words"),
        "runs in which truthful data were refused": tally.count("refused"),
    }
    cases = [(modality, kind) for modality in MODALITIES for kind in Kind]
    rows = [
        (
            f"{modality} {kind}",
            _worst(tally.left_s, (modality, kind)),
            _allowed(modality, kind, settings),
            _worst(tally.back_s, (modality, kind)),
        )
        for modality, kind in cases
    ]
    figures = {
        "counts": counts,
        "took_s": round(took_s, 1),
        "worst_s": {name: {"left": left, "back": back} for name, left, _, back in rows},
    }
    what = Table(
        "Readings that were not what they must be",
        "Every fault alone, every pair, some of all three; `benchmarks/faults/__init__.py` defines them.",
        ("what", "count"),
        [(name, f"{count}") for name, count in counts.items()],
    )
    when = Table(
        "Worst time to the first correct reading, s",
        "From the fault's start to the first reading without the modality, beside the detection deadline or "
        "gate time that is promised (a reading may come up to a hop, 0.5 s, later; with a slow consumer at "
        "the same time 1.2 s more), and from its end to the first reading with it again: back-off, fill, "
        "hold and hop. Words count for 3 s here. Empty where it is never left or never comes back.",
        ("fault", "left after", "promised", "back after"),
        rows,
    )
    return Report("faults", "The fault matrix", figures, [what, when], command="make faults")


def _worst(seconds: dict[Case, list[float]], case: Case) -> str:
    return f"{max(seconds[case]):.2f}" if case in seconds else ""


def _allowed(modality: str, kind: Kind, settings: Settings) -> str:
    if modality == TEXT:
        return ""
    leaves_s = effects(modality, settings)[kind].leaves_s
    return "" if leaves_s is None else f"{leaves_s:.2f}"


if __name__ == "__main__":
    sys.exit(main())
