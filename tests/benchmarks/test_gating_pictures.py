"""The benchmark of picture gates: what it shows to the stream, and that its page says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="needs OpenCV")

from benchmarks.gating import pictures  # noqa: E402 - behind the skip
from benchmarks.gating.picture_tables import picture_report  # noqa: E402
from benchmarks.report import markdown_table  # noqa: E402
from edgeemo.features.face import FaceBox  # noqa: E402
from edgeemo.quality.face import turn_from_landmarks  # noqa: E402
from edgeemo.training.augment.picture import DEFECTS  # noqa: E402

RESULTS = Path(pictures.__file__).parent / "results"


def test_the_page_holds_the_figures() -> None:
    figures = json.loads((RESULTS / "pictures.json").read_text(encoding="utf-8"))["figures"]
    page = (RESULTS / "pictures.md").read_text(encoding="utf-8").splitlines()
    for table in picture_report(figures).tables:
        assert set(markdown_table(table.columns, table.rows)) <= set(page), table.title


def test_gates_cost_nothing_when_clean_and_gain_when_it_is_bad() -> None:
    figures = json.loads((RESULTS / "pictures.json").read_text(encoding="utf-8"))["figures"]
    clean = figures["followed"]["none"]["0"]
    assert clean["gated"] == clean["not gated"]
    assert clean["gated_coverage"] == clean["coverage"] == 1.0
    changes = [
        row["gated"] - row["not gated"]
        for defect, rows in figures["followed"].items()
        if defect != "none"
        for row in rows.values()
    ]
    assert max(changes) > 0.05
    assert np.mean(changes) > 0.005
    assert min(changes) > -3 / clean["n"]  # two faces of all: the error of counting


@pytest.mark.parametrize("name", ["noisy", "blurred"])
def test_frames_differ_as_those_of_a_camera_do(name: str) -> None:
    defect = next(entry for entry in DEFECTS if entry.name == name)
    image = np.tile(np.arange(48, dtype=np.uint8) * 5, (48, 1))
    frames, _ = pictures._frames(image, defect, defect.strengths[0], (3, 4))
    again, _ = pictures._frames(image, defect, defect.strengths[0], (3, 4))
    assert len(frames) == pictures.LOOKS
    assert all((frame == other).all() for frame, other in zip(frames, again, strict=True))
    assert all((frame != frames[0]).any() for frame in frames[1:])


@pytest.mark.parametrize(("name", "degrees"), [("tilted", 60.0), ("turned", 45.0)])
def test_landmarks_say_how_the_face_was_turned(name: str, degrees: float) -> None:
    defect = next(entry for entry in DEFECTS if entry.name == name)
    found = pictures._known(FaceBox(100, 60, 96), (80.0, 40.0, 1.0), defect, degrees)
    assert len(found) == pictures.LOOKS
    landmarks = found[0][0].landmarks
    assert landmarks is not None
    turn = turn_from_landmarks(landmarks)
    assert (turn.roll if name == "tilted" else turn.yaw) == pytest.approx(degrees, abs=1)
