"""The session benchmark sees whole process trees, every face search, and nothing but the session's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.session.running import median_of, running_tables
from benchmarks.session.tree import cpu_seconds, parent_of, pss_bytes, tree, tree_cpu_s

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
STAT = "77 (a name) R) S 12 77 77 0 -1 4194304 1 2 3 4 250 50 30 20 20 0 1 0 100 1000 10"


def test_a_line_of_proc_is_read_past_any_name() -> None:
    assert parent_of(STAT) == 12
    assert cpu_seconds(STAT, tick_hz=100) == 3.5


@LINUX
def test_a_tree_holds_grandchildren_and_keeps_what_ended_children_used() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\n"
    inner = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\n"
    script = f"{inner}print('done', flush=True)\nchild = subprocess.Popen([sys.executable, '-c', "
    script += (
        "'input()'], stdin=subprocess.PIPE)\nprint('two', flush=True)\ninput()\nchild.communicate(b'x')\n"
    )
    before_s = tree_cpu_s(os.getpid())
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
        assert tree_cpu_s(child.pid) >= 0.5
        assert tree_cpu_s(os.getpid()) - before_s >= 0.5
        assert child.stdout.readline() == "two\n"
        assert len(tree(child.pid)) == 2
        assert child.pid in tree(os.getpid())
        weighed = _pss_of_two(child.pid)
        assert set(weighed) == set(tree(child.pid))
        child.communicate("end\n")


def _pss_of_two(pid: int) -> dict[int, int]:
    """A process that has just been started has no memory of its own yet."""
    for _ in range(500):
        weighed = pss_bytes(pid)
        if len(weighed) == 2:
            return weighed
        time.sleep(0.02)
    pytest.fail("the grandchild never has memory")


def test_every_search_of_the_cascade_is_counted_by_its_kind() -> None:
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV")
    from benchmarks.session.detections import Detections

    plain = cv2.CascadeClassifier
    path = Path(__file__).resolve().parents[2] / "edgeemo" / "assets" / "haarcascade_frontalface_default.xml"
    with Detections() as detections:
        cascade = cv2.CascadeClassifier(str(path))
        assert not cascade.empty()
        for side in (240, 58, 58):
            assert len(cascade.detectMultiScale(np.zeros((side, side), np.uint8), scaleFactor=1.2)) == 0
        assert (detections.whole.count, detections.near.count) == (1, 2)
        assert detections.cpu_s > 0
        detections.reset()
        assert (detections.whole.count, detections.near.count, detections.cpu_s) == (0, 0, 0)
    assert cv2.CascadeClassifier is plain


def test_medians_go_into_the_depth_and_the_page_has_the_aims() -> None:
    runs = [_run(cpu, latency) for cpu, latency in ((0.3, 2.0), (0.1, 9.0), (0.2, 4.0))]
    joined = median_of(runs)
    assert (joined["cpu_share"], joined["latency_ms"]["p50"]) == (0.2, 4.0)
    assert joined["pss"]["whole"] == 100e6
    figures = {"hop_s": 0.25, "without_microphone": "", "scenes": {"recording": joined}}
    cost, readings = running_tables(figures, rounds=3, seconds=5.0)
    assert "4 readings a second" in cost.note
    assert "15% without detection, 30% with it, 220 MB" in cost.note
    assert cost.rows[0][1:5] == ("20.0%", "15.0%", "10.0%", "100")
    assert readings.rows[0][-1] == "audio+video 20"


def _run(cpu: float, latency: float) -> dict[str, object]:
    return {
        "seconds": 5.0,
        "readings": 20,
        "subsets": {"audio+video": 20},
        "cpu_share": cpu,
        "own_cpu_share": 0.1,
        "detection_cpu_share": 0.05,
        "whole_searches": 5,
        "near_searches": 20,
        "frames": 50,
        "processes": 2,
        "pss": {"whole": 100e6, "own": 90e6},
        "latency_ms": {"p50": latency, "p95": latency, "p99": latency},
        "late_hops": 0,
        "drops": {"audio": 0, "video": 0},
    }


def test_bare_calls_are_those_of_onnxruntime_and_are_put_back() -> None:
    pytest.importorskip("av", reason="needs PyAV")
    pytest.importorskip("cv2", reason="needs OpenCV")
    from benchmarks.session import overhead
    from edgeemo.bundle import Bundle
    from edgeemo.runtimes.ort import load_onnxruntime
    from edgeemo.shipped import DEFAULT_BUNDLE

    plain = load_onnxruntime().InferenceSession.run
    figures, tables = overhead.measure(Bundle.open(DEFAULT_BUNDLE), variant="int8", hops=3)
    assert load_onnxruntime().InferenceSession.run is plain
    for found in figures.values():
        assert 0 < found["bare_us"] < found["read_us"]
        assert found["hops"] == 3
    assert figures["engine"]["bare_us"] < figures["hop"]["bare_us"]
    assert len(tables[0].rows) == 2
