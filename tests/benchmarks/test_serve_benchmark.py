"""The load test of `edgeemo serve` sees what is lost, late, and growing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("websockets", reason="needs websockets")
pytest.importorskip("fastapi", reason="needs fastapi")
pytest.importorskip("uvicorn", reason="needs uvicorn")

from benchmarks.serve.__main__ import find_problems, make_report
from benchmarks.serve.load import Delivery, Load, delivery_of, share_of

GOOD = Load(
    seconds=600.0,
    clients=2,
    slow=1,
    deaf=3,
    delivery=Delivery(2400, 2400, 1.0, {"p50": 5.0, "p95": 9.0, "p99": 12.0, "most": 20.0}, 0),
    slow_delivered=0.5,
    slow_cut_off=1,
    hops=1200,
    late_hops=0,
    missed=0,
    deaf_cut_off=4,
    cpu_alone=0.1,
    cpu_loaded=0.2,
    memory=tuple((float(second), 100_000_000) for second in range(0, 600, 2)),
)


def heard(times_s: list[float], delays_s: list[float]) -> dict[str, object]:
    arrived_s = [1000.0 + time_s + delay_s for time_s, delay_s in zip(times_s, delays_s, strict=True)]
    latencies_ms = [2.0] * len(times_s)
    return {"times_s": times_s, "arrived_s": arrived_s, "latencies_ms": latencies_ms, "cut_off": 0}


def test_deliveries_are_counted_against_the_hops_and_timed_from_them() -> None:
    whole = heard([1.0, 1.5, 2.0, 2.5], [0.002, 0.012, 0.002, 0.102])
    holed = heard([1.0, 2.0, 2.5], [0.002, 0.002, 0.002])
    found = delivery_of([whole, holed], hop_s=0.5)
    assert (found.expected, found.delivered) == (8, 7)
    assert found.fewest_share == pytest.approx(0.75)
    assert found.late_ms["most"] == pytest.approx(102.0, abs=0.1)
    assert found.late_ms["p50"] == pytest.approx(2.0, abs=0.1)
    assert share_of([holed], hops=4) == pytest.approx(0.75)


def test_a_good_run_has_no_problems_and_a_table() -> None:
    assert find_problems(GOOD) == []
    rows = {row[0]: row[1] for row in make_report(GOOD).tables[0].rows}
    assert rows["readings delivered, of expected"] == "2400, 2400"
    assert rows["growth of memory, kB a minute"] in ("0.0", "-0.0")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (replace(GOOD, late_hops=1), "the session left 1 hops out"),
        (replace(GOOD, missed=2), "2 readings were dropped"),
        (replace(GOOD, delivery=replace(GOOD.delivery, delivered=2399)), "missed 1 of 2400 readings"),
        (replace(GOOD, delivery=replace(GOOD.delivery, cut_off=1)), "cut off 1 times"),
        (replace(GOOD, deaf_cut_off=2), "2 of 3 clients that never read"),
        (
            replace(GOOD, memory=tuple((float(s), 100_000_000 + s * 10_000) for s in range(0, 600, 2))),
            "memory grew by 3.0 MB",
        ),
    ],
)
def test_every_broken_promise_is_named(bad: Load, said: str) -> None:
    (problem,) = find_problems(bad)
    assert said in problem


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_short_run_writes_its_figures(tmp_path: Path) -> None:
    words = ["--seconds", "4.5", "--clients", "3", "--slow", "1", "--deaf", "1", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks.serve", *words]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert "Load on `edgeemo serve`" in done.stdout, done.stderr
    assert (tmp_path / "serve.json").is_file()
