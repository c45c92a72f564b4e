"""The benchmarks measure, and write pages that name the machine; their speed is not judged here."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from live_like import write_live_like

from benchmarks import accuracy, archive, engines, footprint, hop, memory, startup, update
from benchmarks.readme import PAGE, README, figures_from_results, summary_from_results
from benchmarks.report import Report, Table, write_report
from edgeemo.bundle import Bundle
from edgeemo.faces.finder import FaceFinder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_live_like(tmp_path_factory.mktemp("bundle"), variants=("fp32", "int8"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEEMO_CACHE", str(tmp_path / "cache"))


def test_a_page_names_machine_model_and_versions(bundle: Bundle, tmp_path: Path) -> None:
    report = Report(
        "page", "Title", {"a": 1}, [Table("Part", "How.", ("what", "ms"), [("x", "1.0"), ("y", "2.0")])]
    )
    write_report(report, bundle, folder=tmp_path)
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("# Title\n")
    assert "| what | ms |\n| --- | ---: |\n| x | 1.0 |\n| y | 2.0 |\n" in page
    assert f"manifest {bundle.manifest_sha256[:12]}" in page
    document = json.loads((tmp_path / "page.json").read_text())
    assert document["figures"] == {"a": 1}
    assert document["machine"]["cpu"] in page
    assert document["machine"]["packages"]["onnxruntime"] in page


def test_engines_are_compared_in_pairs(bundle: Bundle) -> None:
    report = engines.measure(bundle, calls=3)
    variants, overhead, sizes = report.tables
    assert len(variants.rows) == len(overhead.rows) == 20
    assert [row[:2] for row in variants.rows[:2]] == [("stem.audio", "fp32"), ("stem.audio", "int8")]
    assert variants.rows[0][5] == "1.00"
    assert len(sizes.rows) == 3


def test_fresh_processes_are_timed_with_their_bytecode(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    report = startup.measure(bundle, rounds=1)
    cold = report.figures["cold_start"]
    assert set(cold) == {"fp32", "int8", "auto, nothing cached", "auto, choice cached"}
    for found in cold.values():
        assert 0 < found["import_ms"] + found["open_ms"] < found["process_ms"]
    assert os.environ["PYTHONDONTWRITEBYTECODE"] == "1"


def test_an_archive_is_scored_again_and_again(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    pytest.importorskip("av", reason="needs PyAV")
    report = archive.measure(bundle, recordings=2, rounds=1, crews=(0,))
    [row] = report.tables[0].rows
    assert row[0] == "one process, without Ray"
    assert row[4] == "1.00"
    found = report.figures["workers"]["0"]
    assert 0 < found["first_recording_s"] < found["command_s"]
    gone = Bundle.open(shutil.copytree(bundle.path, tmp_path / "gone"))
    shutil.rmtree(gone.path)
    with pytest.raises(SystemExit, match="edgeemo batch ended with 1"):
        archive.measure(gone, recordings=2, rounds=1, crews=(0,))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_seven_engines_are_weighed(bundle: Bundle) -> None:
    report = footprint.measure(bundle, rounds=1)
    size, memory_table = report.tables
    assert [row[0] for row in size.rows] == ["fp32", "int8"]
    found = report.figures["memory"]["int8"]
    assert set(found) == {"one, bundle", "all, alone", "all, bundle", "all, shared"}
    # Resident, not proportional: that depends on who else runs.
    assert report.figures["base"]["rss"] < found["one, bundle"]["rss"] < found["all, bundle"]["rss"]
    assert len(memory_table.rows) == 9
    sizes = report.figures["sizes"]["variants"]["int8"]
    assert sizes["ratio"] == pytest.approx(sizes["together"] / sizes["largest_alone"])


def test_a_hop_is_taken_apart(bundle: Bundle) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV")
    pytest.importorskip("av", reason="needs PyAV")
    find = FaceFinder.find
    report = hop.measure(bundle, hops=1)
    assert FaceFinder.find is find
    for found in report.figures["variants"].values():
        assert found["subsets"]["audio+video+text"] >= 1
        assert 0 < found["detection"]["mean_ms"] < found["hop"]["mean_ms"]
        assert found["hop"]["mean_ms"] == pytest.approx(
            found["detection"]["mean_ms"] + found["hop without detection"]["mean_ms"], abs=1e-3
        )


def test_a_session_is_watched_while_its_bundle_is_updated() -> None:
    report = update.measure(rounds=1, hops=8)
    times, session = report.tables
    assert [row[0] for row in times.rows][-1] == "`audio+video+text`"
    assert report.figures["session"]["lost"] == 0
    assert report.figures["session"]["failed"] == 0
    assert report.figures["session"]["hops"] >= 8
    assert report.figures["session"]["reloads"] >= 1
    assert session.rows[1] == ("readings lost", "0")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: smaps_rollup")
def test_a_session_of_one_engine_needs_less_memory_than_it_has(bundle: Bundle) -> None:
    found = memory.child("one", str(bundle.path), "fp32")
    assert 0 < found.private <= found.pss <= found.rss


def test_accuracy_lists_what_cannot_be_measured(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"")
    (tmp_path / "words").mkdir()
    rows = ["dialogue\tutt\temotion\ttext", "1\t0\tjoy\tI am glad", "1\t1\tanger\tgo away"]
    (tmp_path / "words" / "dev.tsv").write_text("\n".join(rows) + "\n")
    report = accuracy.measure(bundle, tmp_path)
    figures, recalls, refused = report.tables
    assert [row[0] for row in figures.rows] == ["words, text.fp32", "words, text.int8"]
    assert figures.rows[0][1] == "2"
    assert "-" in recalls.rows[0]
    assert [row[0] for row in refused.rows] == ["clips"]


def test_readme_and_documentation_show_the_committed_results() -> None:
    assert summary_from_results() in README.read_text("utf-8")
    assert figures_from_results() in PAGE.read_text("utf-8")
