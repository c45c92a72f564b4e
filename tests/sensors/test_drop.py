from __future__ import annotations

import numpy as np
import pytest

from edgeemo.errors import InputError
from edgeemo.sensors import Chunk, Drop, drop_chunks, find_drop, parse_drop

RATE = 16000


def ramp(seconds: float, size: int) -> list[Chunk]:
    samples = np.arange(round(seconds * RATE), dtype=np.float32)
    return [Chunk("audio", i / RATE, samples[i : i + size], RATE) for i in range(0, len(samples), size)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("video@1-2", Drop("video", 1.0, 2.0)),
        (" audio@0-.5 ", Drop("audio", 0.0, 0.5)),
        ("text@2.25-10", Drop("text", 2.25, 10.0)),
    ],
)
def test_a_written_failure_is_read(text: str, expected: Drop) -> None:
    assert parse_drop(text) == expected
    assert parse_drop(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "video", "video@", "video@1", "video@1-", "video@-1-2", "@1-2", "video@a-b"]
)
def test_another_form_is_refused_with_the_valid_one(text: str) -> None:
    with pytest.raises(InputError, match=r"MODALITY@FROM-TO in seconds, for example video@1-2\.5"):
        parse_drop(text)


def test_unknown_modalities_and_empty_spans_are_refused() -> None:
    with pytest.raises(InputError, match="'smell'; there are: audio, video, text"):
        parse_drop("smell@1-2")
    with pytest.raises(InputError, match="'text'; there are: audio, video"):
        parse_drop("text@1-2", ["audio", "video"])
    with pytest.raises(InputError, match=r"the end \(1 s\) must come after the start \(2 s\)"):
        parse_drop("video@2-1")
    with pytest.raises(InputError, match="must come after"):
        parse_drop("video@1-1")


def test_find_drop_holds_the_start_and_not_the_end() -> None:
    drops = [Drop("video", 1.0, 2.0), Drop("video", 5.0, 6.0)]
    assert find_drop(drops, "video", 1.0) == drops[0]
    assert find_drop(drops, "video", 2.0) is None
    assert find_drop(drops, "audio", 1.5) is None
    assert find_drop(drops, "video", 5.5) == drops[1]


def test_frames_and_words_inside_a_failure_are_taken_out() -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    chunks = [Chunk("video", t / 4, frame) for t in range(12)] + [Chunk("text", 1.5, "hello")]
    left = list(drop_chunks(chunks, [Drop("video", 1.0, 2.0)]))
    assert [c.time_s for c in left if c.modality == "video"] == [0, 0.25, 0.5, 0.75, 2, 2.25, 2.5, 2.75]
    assert [c.text for c in left if c.modality == "text"] == ["hello"]


@pytest.mark.parametrize("size", [1, 7, 160, 1024, 5000, 48000])
def test_audio_is_cut_to_the_same_sample_however_it_was_chunked(size: int) -> None:
    drops = [Drop("audio", 1.0, 2.0), Drop("audio", 1.5, 2.1), Drop("audio", 2.5, 2.6)]
    left = list(drop_chunks(ramp(3.0, size), drops))
    got = np.concatenate([c.array for c in left])
    second = np.arange(3 * RATE)
    lost = ((second >= RATE) & (second < 2.1 * RATE)) | ((second >= 2.5 * RATE) & (second < 2.6 * RATE))
    np.testing.assert_array_equal(got, second[~lost])
    for chunk in left:
        assert chunk.time_s == pytest.approx(chunk.array[0] / RATE, abs=1e-9)


def test_without_failures_chunks_pass_untouched() -> None:
    chunks = ramp(0.1, 100)
    assert all(a is b for a, b in zip(drop_chunks(chunks, []), chunks, strict=True))


def test_what_comes_after_a_failure_keeps_its_place_in_time() -> None:
    sound = Chunk("audio", 0.0, np.zeros(20, np.float32), 10)
    frames = [Chunk("video", time_s, np.zeros((2, 2, 3), np.uint8)) for time_s in (0.5, 1.5)]
    times = [chunk.time_s for chunk in drop_chunks([sound, *frames], [Drop("audio", 0.2, 1.0)])]
    assert times == [0.0, 0.5, 1.0, 1.5]
