"""The accelerator benchmark measures what runs and says of the rest, row by row, why it does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from stub_driver import build_stub, run_program

from benchmarks.gpu.__main__ import SECTIONS, Bench, main
from benchmarks.gpu.aims import aims_table
from benchmarks.gpu.child import NOT_MEASURED, run_task
from benchmarks.gpu.tables import make_tables
from edgeemo.runtimes.backends import backend_named
from edgeemo.runtimes.trt_library import is_installed
from edgeemo.shipped import DEFAULT_BUNDLE

ENGINE: dict[str, Any] = {"name": "audio", "variant": "fp32", "calls": 5}


def test_an_engine_is_timed_beside_the_bare_library(tiny_export: Path) -> None:
    found = run_task("engine", {"bundle": str(tiny_export), "backend": "cpu", **ENGINE})
    (row,) = found["rows"]
    assert row["agrees"] is True
    assert set(row["ms"]) == {"with copies", "bare"}
    assert 0 < row["ms"]["bare"]["p50"] <= row["ms"]["bare"]["p99"]


def test_a_backend_that_cannot_be_used_gives_its_reason(tiny_export: Path) -> None:
    for backend in ("tensorrt", "cuda"):
        if why := backend_named(backend).why_not():
            found = run_task("engine", {"bundle": str(tiny_export), "backend": backend, **ENGINE})
            assert found[NOT_MEASURED].split()[0] == why.split()[0]
            assert "rows" not in found


def test_what_crashes_or_cannot_start_is_a_reason(tiny_export: Path, tmp_path: Path) -> None:
    assert run_task("engine", {"nonsense": 1})[NOT_MEASURED].startswith("the process ended with exit 1: ")
    assert "cannot be started" in run_task("plans", {}, python=str(tmp_path / "python"))[NOT_MEASURED]
    given = {"bundle": str(tiny_export), "backend": "cpu", **ENGINE}
    assert run_task("engine", given, limit_s=0.01)[NOT_MEASURED] == "no answer within 0.01 s"


def test_results_name_no_folder_of_this_machine() -> None:
    said = run_task("engine", {"bundle": str(Path.home() / "none"), "backend": "cpu", **ENGINE})
    assert "none" in said[NOT_MEASURED]
    assert str(Path.home()) not in said[NOT_MEASURED]


def test_all_engines_take_more_memory_than_one(tiny_export: Path) -> None:
    found = run_task("memory", {"bundle": str(tiny_export), "backend": "cpu", "variant": "fp32"})
    sizes = {step: found["mb"][step]["host"] for step in ("nothing", "one", "all")}
    if sizes["nothing"] is None:
        assert found["ratios"]["host"] is None  # a system that does not tell
    else:
        assert sizes["nothing"] < sizes["one"] < sizes["all"]
        assert found["ratios"]["host"]["whole"] > 0.5
    assert found["ratios"]["gpu"] is None


def test_a_live_session_moves_to_the_stand_in() -> None:
    given = {"bundle": str(DEFAULT_BUNDLE), "backend": "second-cpu", "limit_s": 120.0, "subsets": ["text"]}
    found = run_task("swap", given)
    assert NOT_MEASURED not in found, found
    assert found["moved"] == found["parts"] == 2
    assert found["failed"] == []
    assert {each["engine"] for each in found["moves"]} == {"text", "stem.text"}
    assert sum(each["stale_readings"] for each in found["moves"]) == 0
    assert found["backends"][-1] == "second-cpu"


def test_the_memory_path_over_the_stub(tiny_export: Path, tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings", reason="needs cuda-python")
    words = {"package": "cuda-python", "bundle": str(tiny_export), "calls": 3}
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from benchmarks.gpu import memory_paths
memory_paths.LARGE_BYTES = 1 << 16
from benchmarks.gpu.child import main
sys.argv[1:] = ["memory path", {json.dumps(words)!r}]
raise SystemExit(main())
"""
    done = run_program(program, stub=build_stub(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["rows"]) >= 3
    assert all(row["kept"] for row in found["rows"])
    assert all("recorded there and back" in row["us"] for row in found["rows"])


def test_rows_that_were_not_measured_are_in_the_page(tiny_export: Path) -> None:
    bench = Bench(tiny_export, calls=3, pythons=dict.fromkeys(("cpu", "rtx", "openvino"), sys.executable))
    figures: dict[str, Any] = {
        "gpus": ["none"],
        "libraries": {},
        "bundle": "tiny",
        "backends": bench.backends(),
        **{section: {NOT_MEASURED: "not asked for"} for section in SECTIONS},
        "paths": bench.paths(),
    }
    figures["engines"] = [
        {"backend": "cpu", "engine": "audio", "variant": "fp32"}
        | run_task("engine", {"bundle": str(tiny_export), "backend": "cpu", **ENGINE})["rows"][0],
        *({"backend": "cuda", "engine": each, "variant": "fp16", NOT_MEASURED: "no GPU"} for each in "ab"),
    ]
    pages = {table.title: table for table in make_tables(figures)}
    for table in pages.values():
        assert all(len(cells) == len(table.columns) for cells in table.rows), table.title
        assert all(cell.__class__ is str for cells in table.rows for cell in cells), table.title
    assert pages["Memory"].rows[0][-1] == "not measured: not asked for"
    engines = pages["Engines"].rows
    assert [cells[1] for cells in engines] == ["audio", "2 engines and stems"]
    assert engines[1][-1] == "not measured: no GPU"
    met = {line[0]: line[1:] for line in aims_table(figures).rows}
    assert met["overhead of our runner on `cuda` <= 30 us"] == ("not measured: no GPU", "")
    assert met["overhead of our runner on `cpu` <= 30 us"][1] in ("yes", "no")


def test_the_command_writes_both_files(tiny_export: Path, tmp_path: Path) -> None:
    words = ["--bundle", str(tiny_export), "--only", "paths", "--calls", "3", "--out", str(tmp_path)]
    assert main(words) == 0
    figures = json.loads((tmp_path / "results.json").read_text())["figures"]
    assert figures["swap"] == {NOT_MEASURED: "not asked for"}
    assert [row["package"] for row in figures["paths"]] == ["cuda-python", "pycuda"]
    page = (tmp_path / "results.md").read_text()
    assert page.count("not measured: ") >= 5


@pytest.mark.skipif(not is_installed("rtx"), reason="needs tensorrt-rtx")
def test_plans_are_built_and_read_back(tiny_export: Path) -> None:
    found = run_task("plans", {"bundle": str(tiny_export), "engines": ["audio"]})
    rows = found["rows"]
    assert {tuple(row["sm"]) for row in rows} == {("86",), ("89",), ("120",), ("86", "89", "120")}
    assert all(NOT_MEASURED not in row for row in rows)
    assert min(row["bytes"] for row in rows) > 1000
