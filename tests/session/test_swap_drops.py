"""Sensors over a scene die when they are told to, and a session's readings are right by the deadline."""

from __future__ import annotations

import pytest

pytest.importorskip("av", reason="needs PyAV")
pytest.importorskip("cv2", reason="needs OpenCV")

from benchmarks.swap import cold, drops, swap_time
from benchmarks.swap.scene import DEADLINE_S, Fault, Scene, ScenePlayer, read_scene
from edgeemo.bundle import Bundle
from edgeemo.clock import VirtualClock
from edgeemo.session import EngineOptions, Session
from edgeemo.shipped import DEFAULT_BUNDLE


@pytest.fixture(scope="module")
def scene() -> Scene:
    return read_scene()


def test_a_scene_goes_round(scene: Scene) -> None:
    assert (len(scene.words), scene.rate_hz) == (4, 22050)
    last = len(scene.frames) - 1
    assert (scene.at("video", last + 1).array == scene.frames[last - 1]).all()
    assert (scene.at("video", 2 * last).array == scene.frames[0]).all()
    piece = scene.at("audio", 1000)
    assert (piece.time_s, len(piece.array)) == (50.0, 1102)


@pytest.mark.parametrize("fault", ["hang", "error"])
def test_a_player_dies_and_comes_back(scene: Scene, fault: Fault) -> None:
    clock = VirtualClock()
    with ScenePlayer(scene, "audio", connection="inline") as player:
        player.start(clock)
        player.die(2.0, fault)
        ends, lost_s = [], None
        for _ in range(120):
            clock.advance(0.05)
            ends += [chunk.time_s + chunk.duration_s for chunk in player.poll()]
            assert not ends or ends[-1] <= clock() + 1e-9
            if clock() > 1.0 and player.status.state == "lost" and lost_s is None:
                lost_s = clock()
            if clock() > 4.0:
                player.revive()
        assert lost_s is not None
        assert 2.0 <= lost_s <= 2.0 + DEADLINE_S[fault] + 0.1
        assert not [end for end in ends if 2.0 < end < 4.0]
        assert ends[-1] > 5.5


def test_no_reading_is_stale_and_the_first_right_one_comes_in_time() -> None:
    bundle = Bundle.open(DEFAULT_BUNDLE)
    figures, tables = drops.measure(bundle, variant="int8", phases=2, real_rounds=0)
    assert set(figures["virtual"]) == {
        *(f"{name}, {fault}" for name in ("audio", "video") for fault in ("hang", "error", "mute")),
        "text, mute",
        "audio alone, hang",
        "video alone, hang",
    }
    for kind, found in figures["virtual"].items():
        allowed_s = bundle.manifest.hop_s + DEADLINE_S.get(kind.split(", ")[1], 0.0)
        assert max(found["gap_s"]) <= allowed_s, kind
        assert found["stale"] == found["wrong"] == 0, kind
        late = figures["late_fusion"][kind]
        assert (late["gap_s"], late["stale"]) == (found["gap_s"], 0)
    times, stale = tables
    assert len(times.rows) == 9
    assert stale.rows[0][1:] == ("1", "1")
    assert stale.rows[-1][2] == "120"


def test_swaps_go_to_smaller_and_to_larger_subsets() -> None:
    figures, tables = swap_time.measure(Bundle.open(DEFAULT_BUNDLE), variant="int8", swaps=2)
    assert {len(values) for values in figures.values()} == {2}
    assert [row[0] for row in tables[0].rows] == list(figures)
    assert len(figures) == 4


def test_the_budget_leaves_the_pairs_cold() -> None:
    budget_mb = cold.budget_for_singles_and_largest(Bundle.open(DEFAULT_BUNDLE), "int8")
    options = EngineOptions(variant="int8", memory_budget_mb=budget_mb)
    with Session(engines=options, clock=VirtualClock()) as session:
        parts = session.stats().pool.parts
    assert {name for name, part in parts.items() if part.state == "cold"} == {
        "audio+video",
        "audio+text",
        "video+text",
    }
