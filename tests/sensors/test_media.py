"""Recordings written with PyAV here: whole, cut off, damaged, without sound, or no recordings at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.sensors import Chunk, MediaFile

av = pytest.importorskip("av", reason="needs PyAV")

RATE, FPS, TONE_HZ = 16000, 25, 440
DEMO = Path(__file__).resolve().parents[2] / "edgeemo" / "assets" / "demo.mp4"


def tone(seconds: float) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def write_clip(
    path: Path,
    *,
    seconds: float = 2.0,
    audio: str | None = "aac",
    video: str | None = "libx264",
    faststart: bool = False,
) -> Path:
    """Writes a clip whose pictures get brighter by one level a frame and whose sound is a 440 Hz tone."""
    with av.open(str(path), "w", options={"movflags": "faststart"} if faststart else {}) as container:
        pictures = container.add_stream(video, rate=FPS) if video else None
        sounds = container.add_stream(audio, rate=RATE, layout="mono") if audio else None
        if pictures:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        samples, step = tone(seconds), RATE // FPS
        for index in range(round(seconds * FPS)):
            if pictures:
                level = np.full((48, 64, 3), 40 + index, np.uint8)
                picture = av.VideoFrame.from_ndarray(level, format="bgr24")
                picture.pts, picture.time_base = index, Fraction(1, FPS)
                container.mux(pictures.encode(picture))
            if sounds:
                piece = av.AudioFrame.from_ndarray(
                    samples[None, index * step : (index + 1) * step], "fltp", "mono"
                )
                piece.sample_rate, piece.pts, piece.time_base = RATE, index * step, Fraction(1, RATE)
                container.mux(sounds.encode(piece))
        for stream in (pictures, sounds):
            if stream:
                container.mux(stream.encode())
    return path


def of(modality: str, chunks: Iterable[Chunk]) -> list[Chunk]:
    return [chunk for chunk in chunks if chunk.modality == modality]


def sound_of(chunks: Iterable[Chunk]) -> NDArray[np.float32]:
    return np.concatenate([chunk.array for chunk in of("audio", chunks)])


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_sound_and_picture_come_in_time_order_with_their_own_stamps(tmp_path: Path, name: str) -> None:
    with MediaFile(write_clip(tmp_path / name)) as media:
        assert media.modalities == ("audio", "video")
        assert media.duration_s == pytest.approx(2.0, abs=0.15)
        chunks = list(media)
        times = [chunk.time_s for chunk in chunks]
        assert times == sorted(times)
        frames, sounds = of("video", chunks), of("audio", chunks)
        assert len(frames) == 2 * FPS
        offset_s = frames[0].time_s  # an mpeg transport stream begins with the sound's priming
        assert 0 <= offset_s < 0.1
        for index, frame in enumerate(frames):
            assert frame.time_s == pytest.approx(offset_s + index / FPS, abs=2e-3)
            assert frame.array.shape == (48, 64, 3)
            assert frame.array.mean() == pytest.approx(40 + index, abs=4)
        assert {chunk.rate_hz for chunk in sounds} == {RATE}
        for before, after in itertools.pairwise(sounds):
            assert after.time_s == pytest.approx(before.time_s + before.duration_s, abs=1e-6)
        spectrum = np.abs(np.fft.rfft(sound_of(chunks)[:RATE]))
        assert int(spectrum.argmax()) == TONE_HZ
        assert media.faults == ()
        assert media.status["audio"].state == media.status["video"].state == "lost"
        assert "picture ended at" in media.status["video"].why
        assert media.status["text"].state == "absent"


def test_iterating_again_gives_the_same_again(tmp_path: Path) -> None:
    with MediaFile(write_clip(tmp_path / "clip.mp4")) as media:
        first, second = list(media), list(media)
    assert [(c.modality, c.time_s) for c in first] == [(c.modality, c.time_s) for c in second]
    np.testing.assert_array_equal(sound_of(first), sound_of(second))
    assert media.status["video"].chunks == 2 * FPS


def test_iterations_side_by_side_know_nothing_of_each_other(tmp_path: Path) -> None:
    media = MediaFile(write_clip(tmp_path / "clip.mp4"))
    whole = [(chunk.modality, chunk.time_s) for chunk in media]
    first = iter(media)
    one = list(itertools.islice(first, 40))
    assert media.status["video"].chunks > 10
    second = iter(media)
    assert media.status["video"].chunks == 0  # the newest has not begun
    other: list[Chunk] = []
    for chunk, beside in zip(first, second, strict=False):
        one.append(chunk)
        other.append(beside)
    assert [(chunk.modality, chunk.time_s) for chunk in one] == whole
    assert [(chunk.modality, chunk.time_s) for chunk in (*other, *second)] == whole
    assert media.status["video"].chunks == 2 * FPS
    assert media.faults == ()


def test_closing_ends_every_iteration(tmp_path: Path) -> None:
    media = MediaFile(write_clip(tmp_path / "clip.mp4"))
    iterations = [iter(media) for _ in range(3)]
    for iteration in iterations[:2]:
        next(iteration)
    media.close()
    assert [list(iteration) for iteration in iterations] == [[], [], []]
    assert len(of("video", media)) == 2 * FPS


@pytest.mark.parametrize("chunk_s", [0.005, 0.1, 0.33, 10.0])
def test_sound_in_other_chunks_is_the_same_sound_at_the_same_times(tmp_path: Path, chunk_s: float) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    whole, other = list(MediaFile(path)), list(MediaFile(path, chunk_s=chunk_s))
    np.testing.assert_array_equal(sound_of(other), sound_of(whole))
    assert of("audio", other)[0].time_s == of("audio", whole)[0].time_s
    size = min(round(chunk_s * RATE), len(sound_of(whole)))
    assert all(len(chunk.array) == size for chunk in of("audio", other)[:-1])
    for index, chunk in enumerate(of("audio", other)):
        assert chunk.time_s == pytest.approx(index * size / RATE, abs=1e-9)
    assert [c.time_s for c in of("video", other)] == [c.time_s for c in of("video", whole)]


def test_frames_beyond_max_fps_are_skipped(tmp_path: Path) -> None:
    frames = of("video", MediaFile(write_clip(tmp_path / "clip.mp4"), max_fps=4))
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.28, 0.52, 0.76, 1.0, 1.28, 1.52, 1.76])


def test_lossless_sound_comes_out_to_the_sample(tmp_path: Path) -> None:
    chunks = list(MediaFile(write_clip(tmp_path / "clip.wav", audio="pcm_s16le", video=None)))
    np.testing.assert_allclose(sound_of(chunks), tone(2.0), atol=1.01 / 32768)
    assert chunks[0].array.dtype == np.float32


@pytest.mark.parametrize(
    ("left_out", "left", "sentence"),
    [("audio", "video", "has no sound"), ("video", "audio", "has no picture")],
)
def test_what_a_recording_lacks_is_absent(tmp_path: Path, left_out: str, left: str, sentence: str) -> None:
    path = tmp_path / "clip.mkv"
    write_clip(path, audio=None) if left_out == "audio" else write_clip(path, video=None)
    with MediaFile(path) as media:
        assert media.modalities == (left,)
        assert {chunk.modality for chunk in media} == {left}
        assert media.status[left_out].state == "absent"
        assert media.status[left_out].why == f"clip.mkv {sentence}"
        assert media.faults == ()


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
def test_a_file_that_was_cut_off_yields_what_is_there_and_says_so(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, seconds=3.0, faststart=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with MediaFile(path) as media:
        chunks = list(media)
        end_s = max(chunk.time_s for chunk in of("video", chunks))
        assert 0.5 < end_s < 2.6
        assert sound_of(chunks).size > RATE // 2
        assert media.status["video"].state == "lost"
        assert f"picture ends early, at {end_s + 1 / FPS:.2f} of 3.0" in media.status["video"].why
        assert any("sound ends early" in fault for fault in media.faults)


def test_damaged_pieces_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", seconds=3.0, faststart=True)
    raw = bytearray(path.read_bytes())
    for place in np.random.default_rng(0).integers(len(raw) * 2 // 5, len(raw) * 3 // 5, 60):
        raw[place] ^= 0xFF
    path.write_bytes(raw)
    with MediaFile(path) as media:
        chunks = list(media)
        assert max(chunk.time_s for chunk in chunks) > 2.5
        assert all(np.isfinite(chunk.array).all() for chunk in chunks)
        assert media.status["audio"].drops > 0
        assert any("damaged pieces of sound skipped: " in fault for fault in media.faults)


def test_an_mp4_without_its_index_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="cut off before its index was written"):
        MediaFile(path)


@pytest.mark.parametrize(
    "content", [b"", b"just some words\n" * 50, bytes(range(256)) * 64], ids=["empty", "text", "noise"]
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("thing.mp4", "thing.txt", "thing"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be read as a recording|is no recording"):
            MediaFile(tmp_path / name)


def test_missing_files_folders_and_bad_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such media file: .*none\.mp4"):
        MediaFile(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="cannot be read as a recording: Is a directory"):
        MediaFile(tmp_path)
    path = write_clip(tmp_path / "clip.mkv", seconds=0.2)
    with pytest.raises(InputError, match="chunk_s must be above 0"):
        MediaFile(path, chunk_s=0)
    with pytest.raises(InputError, match="max_fps must be above 0"):
        MediaFile(path, max_fps=-1)
    with pytest.raises(InputError, match=r"captions .* cannot be read"):
        MediaFile(path, captions=tmp_path / "none.srt")


def test_captions_beside_a_recording_become_text(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", seconds=1.0)
    (tmp_path / "clip.srt").write_text("1\n00:00:00,500 --> 00:00:00,900\nHello there\n")
    with MediaFile(path) as media:
        assert media.modalities == ("audio", "video", "text")
        chunks = list(media)
        assert [(c.time_s, c.text) for c in of("text", chunks)] == [(0.5, "Hello there")]
        assert [c.time_s for c in chunks] == sorted(c.time_s for c in chunks)
        assert media.status["text"].state == "running"  # no words are no failure
    assert MediaFile(path, captions=None).modalities == ("audio", "video")


def test_broken_captions_that_nobody_asked_for_do_not_spoil_the_recording(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", seconds=0.5)
    (tmp_path / "clip.srt").write_text("no captions at all")
    media = MediaFile(path)
    assert media.modalities == ("audio", "video")
    assert media.status["text"].state == "absent"
    assert "no captions found" in media.status["text"].why
    assert "no captions found" in media.faults[0]
    with pytest.raises(InputError, match="no captions found"):
        MediaFile(path, captions=tmp_path / "clip.srt")


def test_closing_in_the_middle_ends_the_iteration(tmp_path: Path) -> None:
    media = MediaFile(write_clip(tmp_path / "clip.mkv"))
    seen = 0
    for _ in media:
        seen += 1
        if seen == 3:
            media.close()
            media.close()
    assert 3 <= seen < 10


def test_the_demo_recording_has_sound_picture_and_words() -> None:
    with MediaFile(DEMO, max_fps=4) as media:
        chunks = list(media)
        assert media.faults == ()
    assert len(of("video", chunks)) == 56
    assert len(of("text", chunks)) == 4
    assert len(sound_of(chunks)) / 22050 == pytest.approx(14.0, abs=0.1)


@pytest.mark.parametrize(
    ("name", "frames", "size"), [("single_face.mp4", 72, (360, 640, 3)), ("no_face.mp4", 95, (540, 960, 3))]
)
def test_real_clips_are_read_whole(shared_data: Path, name: str, frames: int, size: tuple[int, ...]) -> None:
    with MediaFile(shared_data / "media" / name) as media:
        chunks = list(media)
        assert media.faults == ()
        assert media.duration_s is not None
        assert len(sound_of(chunks)) / 44100 == pytest.approx(media.duration_s, abs=0.05)
    assert len(of("video", chunks)) == frames
    assert of("video", chunks)[0].array.shape == size
