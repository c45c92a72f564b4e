"""The accelerator benchmark measures what runs and says of the rest why it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stub_driver import build_stub, run_program

from benchmarks.gpu.__main__ import _engines_table, run_one
from edgeemo.runtimes.backends import backend_named

pytest.importorskip("cuda.bindings", reason="needs cuda-python")


def test_a_row_that_runs_and_one_that_cannot(tiny_export: Path) -> None:
    task = {"bundle": str(tiny_export), "name": "audio", "graph": True, "calls": 5}
    row = run_one({**task, "backend": "cpu", "variant": "fp32"})
    assert row["agrees"] is True
    assert row["with_copies_ms"]["p50"] > 0
    rows = [{**task, "backend": "cpu", "variant": "fp32", **row}]
    for backend in ("tensorrt", "cuda"):
        if why := backend_named(backend).why_not():
            row = run_one({**task, "backend": backend, "variant": "fp16"})
            assert row == {"why_not": why}
            rows.append({**task, "backend": backend, "variant": "fp16", **row})
    table = _engines_table(rows)
    assert all(len(cells) == len(table.columns) for cells in table.rows)
    assert table.rows[0][-1] == "agrees with the bundle"
    assert all(cells[-1].startswith("not measured: ") for cells in table.rows[1:])


def test_a_row_that_crashes_is_a_reason(tmp_path: Path) -> None:
    row = run_one({"bundle": str(tmp_path), "nonsense": 1})
    assert row["why_not"].startswith("ended with 1: ")


def test_the_memory_path_over_the_stub(tmp_path: Path) -> None:
    program = (
        "import sys; from benchmarks.gpu.one import main\n"
        'sys.argv[1:] = [\'{"package": "cuda-python", "calls": 5}\']\n'
        "raise SystemExit(main())"
    )
    done = run_program(program, stub=build_stub(tmp_path))
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["right"] is True
    assert set(row) == {"gpu", "right", "copies_us", "replayed_us"}
