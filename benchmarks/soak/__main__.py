"""``python -m benchmarks.soak``: hours of a session; writes ``benchmarks/soak/soak.{json,md}``."""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.report import Report, Table, write_report
from benchmarks.soak.run import WARM_UP, Soak, soak
from benchmarks.soak.world import FAULT_EVERY_S
from edgeemo.bundle import Bundle
from edgeemo.shipped import DEFAULT_BUNDLE

HERE = Path(__file__).resolve().parent
MOST_GROWTH = 50.0
"""Bytes a hop; over 200,000 hops that is 10 MB."""


def main() -> int:
    """Runs the soak; fails where memory or threads grow, hops are lost or a second run says otherwise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="default: the one that ships")
    parser.add_argument("--hops", type=int, default=200_000, metavar="N")
    parser.add_argument("--every", type=int, default=1000, metavar="N", help="hops between looks at memory")
    parser.add_argument(
        "--again", type=int, default=20_000, metavar="N", help="hops run again in a fresh process, 0 for none"
    )
    parser.add_argument("--out", type=Path, default=HERE, help="default: benchmarks/soak")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # the licence notice, and a line for each fault
    bundle = Bundle.open(args.bundle)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("soak", total=args.hops)
        found = soak(
            bundle, hops=args.hops, every=args.every, tell=lambda hop: progress.update(task, completed=hop)
        )
    again = run_again(args.bundle, hops=args.again, every=args.every) if args.again else None
    report = make_report(found, again)
    write_report(report, bundle, folder=args.out)
    print((args.out / "soak.md").read_text(encoding="utf-8"))
    problems = find_problems(found, again)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def run_again(bundle: Path, *, hops: int, every: int) -> tuple[int, str]:
    """Runs the first hops again in a fresh process; returns how many and the digest of their readings."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--hops", str(hops), "--every", str(every), "--again", "0", "--out", folder]
        command = [sys.executable, "-m", "benchmarks.soak", "--bundle", str(bundle.resolve()), *words]
        subprocess.run(command, cwd=HERE.parents[1], check=False, stdout=subprocess.DEVNULL)
        document = json.loads((Path(folder) / "soak.json").read_text(encoding="utf-8"))
    return hops, str(document["figures"]["digest"])


def find_problems(found: Soak, again: tuple[int, str] | None) -> list[str]:
    """Returns in sentences what is not as it must be."""
    problems = []
    if found.growth_per_hop > MOST_GROWTH:
        problems.append(f"memory grows by {found.growth_per_hop:.0f} bytes a hop, at most {MOST_GROWTH:g}")
    for what in ("threads", "files"):
        counts = [getattr(sample, what) for sample in found.steady]
        if max(counts) > counts[0]:
            problems.append(f"{what} grow from {counts[0]} to {max(counts)}")
    if found.late_hops:
        problems.append(f"{found.late_hops} hops were left out")
    if again is not None:
        digests = {sample.hop: sample.digest for sample in found.samples}
        if digests.get(again[0]) != again[1]:
            problems.append(f"a second run said something else in its first {again[0]} hops")
    return problems


def make_report(found: Soak, again: tuple[int, str] | None) -> Report:
    """Returns the tables of a run."""
    first, last = found.steady[0], found.steady[-1]
    same = "not run" if again is None else f"the same in {again[0]} hops of a second process"
    rows = [
        ("readings", f"{found.hops}"),
        ("hours for the session", f"{found.simulated_s / 3600:.1f}"),
        ("minutes for the machine", f"{found.took_s / 60:.1f}"),
        ("memory (RSS) after the warm-up, MB", f"{first.rss / 1e6:.1f}"),
        ("memory (RSS) at the end, MB", f"{last.rss / 1e6:.1f}"),
        ("growth of memory, bytes a hop", f"{found.growth_per_hop:.1f}"),
        ("threads, after the warm-up and at the end", f"{first.threads}, {last.threads}"),
        ("open files, after the warm-up and at the end", f"{first.files}, {last.files}"),
        ("hops left out", f"{found.late_hops}"),
        ("most events kept", f"{found.most_events}"),
        *((f"reconnects, {name}", f"{count}") for name, count in found.reconnects.items()),
        ("sha256 of the readings", f"{found.digest[:16]}, {same}"),
    ]
    note = (
        f"The demo recording on end, one to three devices fail every {FAULT_EVERY_S:g} s, int8 engines, one "
        f"session on a virtual clock; the first {WARM_UP:.0%} are the warm-up. The digest covers everything "
        "that each reading says, numbers rounded to six digits."
    )
    subsets = Table(
        "Readings of each subset", "", ("subset", "readings"), [(k, f"{n}") for k, n in found.subsets.items()]
    )
    table = Table("One session for hours", note, ("what", "value"), rows)
    return Report("soak", "Soak", found.to_json(), [table, subsets], command="make soak")


if __name__ == "__main__":
    sys.exit(main())
