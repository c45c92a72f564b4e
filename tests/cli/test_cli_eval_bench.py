"""``edgeemo eval`` and ``edgeemo bench``, and the measuring behind them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from live_like import write_live_like
from tiny_graphs import engine_bytes

from edgeemo.bundle import Bundle
from edgeemo.cli.commands import bench
from edgeemo.cli.commands import eval as eval_command
from edgeemo.cli.main import COMMANDS
from edgeemo.cli.parser import CommandParser
from edgeemo.cli.show.progress import progress_bar
from edgeemo.errors import BackendError, InputError, SubsetError
from edgeemo.evaluation.footprint import measure_footprint, memory_from_smaps, memory_of
from edgeemo.evaluation.speed import measure_speed, timing_from_seconds
from edgeemo.runtimes import OrtRunner


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_live_like(tmp_path_factory.mktemp("bundle"), variants=("fp32", "int8"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEEMO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def comments(tmp_path: Path) -> Path:
    folder = tmp_path / "comments"
    folder.mkdir()
    rows = ["id\tlabels28\tlabels7\ttext", "1\tx\tjoy\tI am glad", "2\tx\tanger\tgo away", "3\tx\tjoy\t-"]
    (folder / "dev.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def call(command: ModuleType, *words: object) -> int:
    parser = CommandParser()
    command.add_parser(parser.add_commands(COMMANDS))
    name = command.__name__.rpartition(".")[2]
    return int(command.run(parser.parse_args([name, *map(str, words)])))


def test_eval_prints_a_table(bundle: Bundle, comments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(eval_command, bundle.path, comments, "--variant", "int8") == 0
    out = capsys.readouterr().out
    assert "live-like on comments, split dev" in out
    assert "text.int8 after stem.text.int8 on cpu, n = 3" in out
    assert "1 items hold nothing to recognise" in out
    assert "UAR" in out
    assert "disgust        -" in out
    assert "note: not in this data" in out


def test_eval_as_json(bundle: Bundle, comments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(eval_command, bundle.path, comments, "--split", "val", "--subset", "text", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    (result,) = document["results"]
    assert result["subset"] == "text"
    assert np.array(result["metrics"]["confusion"]).sum() == result["metrics"]["n"] == 3


def test_bench_prints_every_engine_stem_and_cost(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(bench, bundle.path, "--calls", 3, "--subset", "video+audio", "--subset", "audio") == 0
    out = capsys.readouterr().out
    lines = [line.split()[:3] for line in out.splitlines()]
    for variant in ("fp32", "int8"):
        for engine in ("stem.audio", "stem.video", "audio+video"):
            assert [engine, variant, "cpu"] in lines
    assert "stem.text" not in out
    assert "first reading (audio)" in out


def test_bench_as_json(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(bench, bundle.path, "--calls", 3, "--variant", "auto", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    engines = {entry["engine"]: entry for entry in document["engines"]}
    assert len(engines) == len(document["engines"]) == 10
    assert engines["audio"]["choice"].startswith("audio: ")
    assert engines["audio"]["timing"]["calls"] == 3
    assert engines["stem.text"]["bytes"] == bundle.stem_path("text", "fp32").stat().st_size
    assert document["fresh_process"]["subset"] == "text"
    assert document["fresh_process"]["process_ms"] > document["fresh_process"]["open_ms"]


def test_speed_refuses_what_is_not_there(bundle: Bundle) -> None:
    with pytest.raises(SubsetError, match="this model has: audio, video, text"):
        measure_speed(bundle, subsets=["smell"])
    with pytest.raises(InputError, match="it has: fp32, int8"):
        measure_speed(bundle, variant="int4", calls=1)
    with pytest.raises(InputError, match="at least 1, not 0"):
        measure_speed(bundle, calls=0)


def test_percentiles_by_hand() -> None:
    timing = timing_from_seconds([number / 1000 for number in range(1, 102)])
    assert (timing.calls, timing.p50_ms, timing.p95_ms, timing.p99_ms) == (101, 51.0, 96.0, 100.0)
    with pytest.raises(InputError, match="no durations"):
        timing_from_seconds([])


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"could not make a reading: .*is no folder"):
        measure_footprint(tmp_path / "missing")


def test_memory_is_read_from_the_kernels_text() -> None:
    text = (
        "55d0-7fff ---p 00:00 0 [rollup]\nRss: 30 kB\nPss: 20 kB\nPrivate_Clean: 4 kB\nPrivate_Dirty: 6 kB\n"
    )
    memory = memory_from_smaps(text)
    assert (memory.rss, memory.pss, memory.private) == (30 * 1024, 20 * 1024, 10 * 1024)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: smaps_rollup")
def test_memory_of_this_process() -> None:
    own = memory_of()
    assert own is not None
    assert 0 < own.private <= own.pss <= own.rss
    assert memory_of(2**22 + 1) is None


def test_a_bar_without_a_terminal_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgeemo.cli.show.progress.PATIENCE_S", 0.0)
    with progress_bar("measuring") as advance:
        advance(1, 2)
        advance(2, 2)
    assert capsys.readouterr() == ("", "")


def test_a_bar_appears_when_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rich", reason="needs rich")
    monkeypatch.setattr("edgeemo.cli.show.progress.PATIENCE_S", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar("measuring") as advance:
        advance(1, 2)
    assert "measuring" in capsys.readouterr().err


def test_the_bare_session_is_at_hand_and_gives_the_same() -> None:
    with OrtRunner(engine_bytes()) as runner:
        feed = {spec.name: np.ones([1, *spec.shape[1:]], np.float32) for spec in runner.inputs}  # type: ignore[list-item]
        np.testing.assert_array_equal(runner.session.run(None, feed)[0], runner.run(feed)["logits"])
    assert runner.session is None
