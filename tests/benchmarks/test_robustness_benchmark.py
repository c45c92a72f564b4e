"""The disturbances of the robustness benchmark do what their names say."""

from __future__ import annotations

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="needs opencv")

from benchmarks import robustness  # noqa: E402 - behind the skip
from edgeemo.features.text import tokenize  # noqa: E402


@pytest.mark.parametrize("ratio_db", [20, 0])
def test_noise_has_the_ratio_that_was_asked_for(ratio_db: float) -> None:
    rng = np.random.default_rng(0)
    clip = np.zeros(64000, np.float32)
    clip[16000:48000] = 0.1 * rng.standard_normal(32000)
    noisy = robustness._mixed(robustness._pink, ratio_db)(clip, rng)
    assert np.abs(noisy).max() == pytest.approx(0.9, rel=1e-3)
    power = np.mean(noisy[:16000] ** 2), np.mean(noisy[16000:48000] ** 2)
    found_db = 10 * np.log10((power[1] - power[0]) / power[0])
    assert found_db == pytest.approx(ratio_db, abs=1.0)


def test_a_face_stands_in_the_middle_of_a_picture() -> None:
    face = np.tile(np.arange(48, dtype=np.uint8) * 5, (48, 1))
    picture = robustness._in_a_picture(face, 96)
    assert picture.shape == (240, 320)
    inside = cv2.resize(picture[72:168, 112:208], (48, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(inside.astype(int) - face).max() <= 6
    assert robustness._darkened(picture).mean() == pytest.approx(picture.mean() / 8, abs=1.0)
    assert robustness._blurred(picture, 0.04).std() < picture.std()


def test_a_recogniser_leaves_no_marks_and_makes_the_errors_that_were_asked_for() -> None:
    texts = ["Well, I don't know what to think about their new house!"] * 300
    plain = [tokenize(text) for text in robustness._misheard(texts, 0.0)]
    assert plain == [[word for word in tokenize(texts[0]) if word[0].isalnum()]] * 300
    worse = [tokenize(text) for text in robustness._misheard(texts, 0.2)]
    kept = np.mean([len(set(words) & set(plain[0])) / len(set(plain[0])) for words in worse])
    assert 0.7 < kept < 0.92
