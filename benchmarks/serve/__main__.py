"""``python -m benchmarks.serve``: load on a served session; writes ``benchmarks/serve/serve.{json,md}``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.report import Report, Table, write_report
from benchmarks.serve.load import WARM_UP, Load, measure
from edgeemo.bundle import Bundle
from edgeemo.shipped import DEFAULT_BUNDLE

HERE = Path(__file__).resolve().parent
MOST_GROWTH = 2e6
"""Bytes over the whole run after its warm-up: the allocator's own unrest is about half of it."""
_ALL_CUT_OFF_S = 60.0  # who answers no ping is cut off after 40


def main() -> int:
    """Runs the load; fails where a hop is missed, a reading is lost, memory grows or deaf clients stay."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="under load (default 600)")
    parser.add_argument("--clients", type=int, default=200, help="that read all (default 200)")
    parser.add_argument("--slow", type=int, default=10, help="that read too slowly (default 10)")
    parser.add_argument("--deaf", type=int, default=10, help="that never read (default 10)")
    parser.add_argument("--out", type=Path, default=HERE, help="default: benchmarks/serve")
    args = parser.parse_args()
    found = measure(
        clients=args.clients,
        slow=args.slow,
        deaf=args.deaf,
        seconds=args.seconds,
        alone_s=min(30.0, args.seconds / 4),
    )
    write_report(make_report(found), Bundle.open(DEFAULT_BUNDLE), folder=args.out)
    print((args.out / "serve.md").read_text(encoding="utf-8"))
    problems = find_problems(found)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def find_problems(found: Load) -> list[str]:
    """Returns in sentences what is not as it must be."""
    problems = []
    if found.late_hops:
        problems.append(f"the session left {found.late_hops} hops out")
    if found.missed:
        problems.append(f"{found.missed} readings were dropped before they were told")
    lost = found.delivery.expected - found.delivery.delivered
    if lost or found.delivery.cut_off:
        problems.append(
            f"clients that read all missed {lost} of {found.delivery.expected} readings and were cut off "
            f"{found.delivery.cut_off} times"
        )
    grown = found.growth_bytes_per_min * found.seconds * (1 - WARM_UP) / 60.0
    if grown > MOST_GROWTH:
        problems.append(
            f"memory grew by {grown / 1e6:.1f} MB after the warm-up, at most {MOST_GROWTH / 1e6:g}"
        )
    if found.seconds >= _ALL_CUT_OFF_S and found.deaf_cut_off < found.deaf:
        problems.append(f"{found.deaf_cut_off} of {found.deaf} clients that never read were cut off")
    return problems


def make_report(found: Load) -> Report:
    """Returns the table of a run."""
    late = found.delivery.late_ms
    first, last = found.steady[0][1], found.steady[-1][1]
    per_client = found.delivery.delivered / found.clients
    rows = [
        ("live sockets: reading all, slow, never reading", f"{found.clients}, {found.slow}, {found.deaf}"),
        ("seconds under load", f"{found.seconds:.0f}"),
        ("readings that the session made", f"{found.hops}"),
        ("hops that it left out", f"{found.late_hops}"),
        ("readings a client got, of those that read all", f"{per_client:.1f}"),
        ("readings delivered, of expected", f"{found.delivery.delivered}, {found.delivery.expected}"),
        ("the same of the client that got least", f"{found.delivery.fewest_share:.2%}"),
        ("from the hop to the client, median, ms", f"{late['p50']:.1f}"),
        ("from the hop to the client, p95, ms", f"{late['p95']:.1f}"),
        ("from the hop to the client, p99, ms", f"{late['p99']:.1f}"),
        ("from the hop to the client, most, ms", f"{late['most']:.1f}"),
        ("readings that slow clients got, of all", f"{found.slow_delivered:.0%}"),
        ("times that a slow client was cut off", f"{found.slow_cut_off}"),
        ("live sockets that the server cut off", f"{found.deaf_cut_off}"),
        ("processors busy with the server, no client", f"{found.cpu_alone:.3f}"),
        ("processors busy with the server, under load", f"{found.cpu_loaded:.3f}"),
        ("memory (PSS) after the warm-up, MB", f"{first / 1e6:.1f}"),
        ("memory (PSS) at the end, MB", f"{last / 1e6:.1f}"),
        ("growth of memory, kB a minute", f"{found.growth_bytes_per_min / 1e3:.1f}"),
    ]
    note = (
        "`edgeemo serve` in a process of its own plays the demo recording again and again at its own pace, "
        "int8 engines, a reading each 0.5 s; the clients are in another process on the same machine. Slow "
        "clients take a message each 0.7 s of the four that come a second: they fall behind by what the "
        "kernel's buffers hold, and are cut off when a ping comes back too late. The first "
        f"{WARM_UP:.0%} are the warm-up of memory: the history fills for five minutes. Times from the hop "
        "count everything: making the reading, telling it, the socket, and the client's own turn."
    )
    table = Table("A served session under load", note, ("what", "value"), rows)
    figures = {**asdict(found), "growth_bytes_per_min": round(found.growth_bytes_per_min)}
    return Report("serve", "Load on `edgeemo serve`", figures, [table], command="make load")


if __name__ == "__main__":
    sys.exit(main())
