"""`edgeemo plot`: what is drawn of a record, and what is said where nothing can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib")

from edgeemo.cli.main import main
from edgeemo.errors import InputError, RecordError
from edgeemo.plots import draw_timeline, save_timeline, track_from_record
from edgeemo.plots.columns import columns_from_track, runs_of
from edgeemo.plots.track import NOTHING, STATES
from edgeemo.session import State

LABELS = ("happy", "sad")


def line(time_s: float, happy: float | None = None, **words: Any) -> dict[str, Any]:
    """One reading of audio and video; without a probability there is no signal."""
    signal = happy is not None
    states = {"audio": "live" if signal else "quiet", "video": "live", **words.pop("states", {})}
    return {
        "time_s": time_s,
        "label": "happy" if signal else "no signal",
        "probabilities": {"happy": happy, "sad": 1 - happy} if happy is not None else {},
        "emotion": "happy" if signal else None,
        "mood": None,
        "valence": happy,
        "arousal": 0.25 if signal else None,
        "engine": "audio.int8" if signal else None,
        "states": {name: {"state": state, "why": "", "since_s": 0.0} for name, state in states.items()},
        **words,
    }


def header(**words: Any) -> dict[str, Any]:
    said = {"model_id": "m", "labels": LABELS, "modalities": ["audio", "video"], "hop_s": 0.5}
    return {"edgeemo_record": 1, **said, "started_at_ms": None, **words}


def record(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_a_record_becomes_arrays(tmp_path: Path) -> None:
    lost = line(1.0, None, states={"video": "lost"})
    track = track_from_record(record(tmp_path / "a.jsonl", header(), line(0.5, 0.75), lost))
    assert track.labels == LABELS
    np.testing.assert_allclose(track.probabilities, [[0.75, 0.25], [0.0, 0.0]])
    assert track.emotion.tolist() == [0, NOTHING]
    assert track.engine.tolist() == [0, NOTHING]
    assert [STATES[number] for number in track.states[1]] == [State.QUIET, State.LOST]
    assert np.isnan(track.valence[1])


def test_sessions_follow_each_other_and_may_be_drawn_alone(tmp_path: Path) -> None:
    path = record(tmp_path / "a.jsonl", header(), line(0.5, 1.0), header(), line(0.5, 0.0), line(1.0, 0.5))
    track = track_from_record(path)
    assert track.time_s.tolist() == [0.5, 1.0, 1.5]
    assert [start_s for start_s, _ in track.starts] == [0.0, 0.5]
    assert track_from_record(path, session=2).probabilities[:, 0].tolist() == [0.0, 0.5]
    with pytest.raises(InputError, match="no session 3; it has 2"):
        track_from_record(path, session=3)


def test_columns_are_means_and_lose_no_outage(tmp_path: Path) -> None:
    entries = [line(0.5 * number, number % 2) for number in range(1, 4001)]
    entries[1234] = line(0.5 * 1235, None, states={"video": "lost"})
    track = track_from_record(record(tmp_path / "a.jsonl", header(), *entries))
    columns, step_s = columns_from_track(track, 100)
    assert len(columns) == 100
    assert step_s == pytest.approx(20.0)
    np.testing.assert_allclose(columns.probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.delete(columns.probabilities[:, 0], 30), 0.5, atol=0.02)
    lost = STATES.index(State.LOST)
    assert np.flatnonzero(columns.states[:, 1] == lost).tolist() == [30]
    assert columns_from_track(track, 5000) == (track, 0.5)


def test_runs_have_gaps_where_there_is_nothing() -> None:
    times = np.array([0.5, 1.0, 1.5, 2.0, 9.0])
    runs = runs_of(times, np.array([3, 3, NOTHING, 1, 1]), 0.5)
    assert [(run.start_s, run.end_s, run.value) for run in runs] == [(0, 1, 3), (1.5, 2, 1), (8.5, 9, 1)]


def test_the_picture_shows_every_lane_with_its_colours(tmp_path: Path) -> None:
    entries = [line(0.5 * number, 0.6) for number in range(1, 9)]
    entries[3] = line(2.0, None, states={"video": "lost"})
    track = track_from_record(record(tmp_path / "a.jsonl", header(), *entries))
    figure = draw_timeline(track)
    axes = figure.axes[:5]
    lanes = [[text.get_text() for text in each.get_yticklabels()] for each in axes[1:4]]
    assert lanes == [["emotion", "mood"], ["audio", "video"], ["engine"]]
    assert len(axes[2].patches) + len(axes[2].collections) == 3 + 3  # live, another, live: twice
    assert [text.get_text() for text in axes[3].texts] == ["audio", "audio"]
    assert axes[0].get_xlim() == (0.0, 4.0)
    words = " ".join(text.get_text() for text in figure.texts)
    assert "8 readings of the model m" in words
    assert "a signal in 88% of the readings" in words


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures_are_whole_and_the_same_each_time(tmp_path: Path, suffix: str, start: bytes) -> None:
    track = track_from_record(record(tmp_path / "a.jsonl", header(), line(0.5, 0.6), line(1.0, 0.5)))
    first = save_timeline(track, tmp_path / f"a.{suffix}").read_bytes()
    assert first.startswith(start)
    assert save_timeline(track, tmp_path / f"a.{suffix}", dark=True).read_bytes() != first
    assert save_timeline(track, tmp_path / f"a.{suffix}").read_bytes() == first
    assert {place.name for place in tmp_path.iterdir()} == {f"a.{suffix}", "a.jsonl"}


def test_what_cannot_be_drawn_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path / "a.jsonl", header(), line(0.5, 0.6))
    with pytest.raises(InputError, match=r"ends in none of \.png, \.svg, \.pdf"):
        save_timeline(track_from_record(path), tmp_path / "a.bmp")
    with pytest.raises(RecordError, match="cannot be written"):
        save_timeline(track_from_record(path), tmp_path / "no" / "a.png")
    empty = record(tmp_path / "b.jsonl", header())
    assert main(["plot", str(empty), "--out", str(tmp_path / "b.png")]) == 1
    assert "holds no reading, so there is nothing to draw" in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()


def test_the_command_says_what_it_drew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path / "a.parquet.journal.jsonl", header(), line(0.5, 0.6), line(1.0, None))
    assert main(["plot", str(path), "--out", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out == f"2 readings drawn in {tmp_path / 'a.png'}\n"
