"""Five thousand hops of one session in a process of its own, and the first of them again in another."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOPS, AGAIN = 5000, 500
MOST_MB = 6.0  # beside a bounded log of events, which still fills: hours show more (`make soak`)


def run(folder: Path, *, hops: int) -> dict[str, Any]:
    words = ["--hops", str(hops), "--every", "250", "--again", "0", "--out", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", *words], cwd=ROOT, check=False, capture_output=True
    )
    found: dict[str, Any] = json.loads((folder / "soak.json").read_text("utf-8"))["figures"]
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: /proc")
def test_hops_without_end_need_no_more_memory_and_say_the_same_again(tmp_path: Path) -> None:
    found = run(tmp_path / "first", hops=HOPS)
    steady = [sample for sample in found["samples"] if sample["hop"] >= HOPS / 5]
    assert found["hops"] == HOPS
    assert found["late_hops"] == 0
    assert (steady[-1]["rss"] - steady[0]["rss"]) / 1e6 < MOST_MB
    assert {sample["threads"] for sample in steady} == {steady[0]["threads"]}
    assert {sample["files"] for sample in steady} == {steady[0]["files"]}
    assert min(found["reconnects"].values()) > 0
    assert {"audio+video+text", "audio", "video", "text", "no signal"} <= set(found["subsets"])
    digests = {sample["hop"]: sample["digest"] for sample in found["samples"]}
    assert run(tmp_path / "second", hops=AGAIN)["digest"] == digests[AGAIN]
