"""Thresholds are learned from what helps, stay open where nothing does, and reach a session."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs OpenCV")

from made_voice import made_voice

from edgeemo.quality.sound import SoundBlock, SoundQuality
from edgeemo.session.settings import Settings, settings_from_thresholds
from edgeemo.training.augment.noise import KINDS, loud_level, room_noise, scene
from edgeemo.training.live.gate_scenes import HeardHop
from edgeemo.training.live.gates import (
    GRIDS,
    Heard,
    fit_limits,
    write_thresholds,
)
from edgeemo.training.live.voice_gate import detection_rate, empty_room, fit_voice_activity

TALKERS = [made_voice(2.0, seed=seed) for seed in range(6)]


def test_a_burst_begins_in_the_middle_of_the_clip() -> None:
    heard = scene(made_voice(2.0, noise=0.0), "burst", -10.0, np.random.default_rng(0), tail_s=5.0)
    levels = [float(np.sqrt(np.mean(part**2))) for part in np.split(heard.samples, 10)]  # one each second
    assert max(levels[:3] + levels[8:]) < 0.01 * min(levels[4:8])


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"burst"}))
def test_a_scene_has_the_ratio_that_it_says(kind: str) -> None:
    clip = made_voice(3.0, noise=0.0)
    heard = scene(clip, kind, 5.0, np.random.default_rng(0), talkers=TALKERS)
    assert heard.starts_s == 3.0
    assert heard.ends_s == pytest.approx(6.0)
    assert np.abs(heard.samples).max() <= 1.0
    if kind == "clipping":
        assert np.mean(np.abs(heard.samples) == 1.0) > 0.002
        return
    room = heard.samples[: 3 * 16000].astype(np.float64)
    with_voice = loud_level(heard.samples[3 * 16000 : 6 * 16000]) ** 2
    ratio = 10 * np.log10((with_voice - float(np.mean(room**2))) / float(np.mean(room**2)))
    assert ratio == pytest.approx(5.0, abs=2.0)


def test_the_same_seed_gives_the_same_noise() -> None:
    first, second = (room_noise("babble", 16000, np.random.default_rng(3), TALKERS) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.mean(first**2) == pytest.approx(1.0)


def test_what_a_voice_is_keeps_false_alarms_low() -> None:
    spoken = [SoundQuality(16000).push(made_voice(4.0, seed=seed, noise=0.01)) for seed in range(4)]
    rooms = ("pink", "white", "hum", "switched on", "knocks")
    empty = [SoundQuality(16000).push(empty_room(kind, np.random.default_rng(1))) for kind in rooms]
    found = fit_voice_activity(spoken, empty)
    assert set(found) == {"voice_excess_db", "voice_harmonicity", "voice_least_s"}
    limits = found["voice_excess_db"], found["voice_harmonicity"], round(10 * found["voice_least_s"])
    assert detection_rate(empty, *limits) <= 0.01
    assert detection_rate(spoken, *limits) > 0.9


def scenes(*, hum_helps: bool) -> Heard:
    """Returns one clean scene in which the voice helps, and one with much hum in which it may not."""
    clean = [SoundBlock(-20.0 if at % 3 else -60.0, 30.0, 0.6, 0.0, 0.5, 0.0) for at in range(60)]
    humming = [
        SoundBlock(-19.0 if at % 2 else -20.0, 10.0 * (at % 2), 0.6 * (at % 2), 0.0, 0.5, 0.9)
        for at in range(60)
    ]
    found = []
    for kind, blocks, helps in (("clean", clean, True), ("hum", humming, hum_helps)):
        hops = [HeardHop(kind, 0.0, 0, count, 1.0, -1.0, 4.0, helps, not helps) for count in range(20, 60, 5)]
        found.append((blocks, hops))
    return Heard(found, np.ones(1))


def test_a_limit_stands_where_leaving_the_voice_out_begins_to_pay() -> None:
    found = fit_limits(scenes(hum_helps=False), Settings())
    assert found["audio_hum_lead_db"] > 1.0 or found["audio_lead_db"] > 1.0
    assert found["audio_clipped"] == GRIDS["audio_clipped"][0]


def test_without_gain_every_limit_stays_open() -> None:
    found = fit_limits(scenes(hum_helps=True), Settings())
    assert found == {name: grid[0] for name, grid in GRIDS.items()}


def test_thresholds_go_from_the_checkpoint_into_the_manifest_and_the_settings(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs edgeemo[export]")
    from edgeemo.export import export_bundle

    tiny = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
    checkpoint = Path(shutil.copytree(tiny, tmp_path / "checkpoint"))
    write_thresholds(checkpoint, {"audio_clipped": 0.25})
    write_thresholds(checkpoint, {"voice_excess_db": 7.0})
    assert json.loads((checkpoint / "checkpoint.json").read_text())["thresholds"] == {
        "audio_clipped": 0.25,
        "voice_excess_db": 7.0,
    }
    export_bundle(checkpoint, tmp_path / "bundle", variants=("int8",))
    thresholds = json.loads((tmp_path / "bundle" / "manifest.json").read_text())["thresholds"]
    assert "max_accuracy_loss" in thresholds
    settings = settings_from_thresholds(thresholds)
    assert (settings.audio_clipped, settings.voice_excess_db) == (0.25, 7.0)
    assert settings.voice_harmonicity == Settings().voice_harmonicity
