"""The reader of the speech corpora, on a tiny zip of FLAC clips, and on the real ones."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny_speech import flac, tone, write_corpus

from edgeemo.datasets.audio_files import decode_audio
from edgeemo.datasets.speech import SPEECH_CORPORA, read_speech
from edgeemo.errors import DatasetError, MissingDependencyError

ROWS = [
    ("a.flac", "S1", "happy", "train"),
    ("b.flac", "S1", "angry", "train"),
    ("c.flac", "S2", "-", "train"),
    ("d.flac", "S3", "surprise", "val"),
]


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "speech_tiny", ROWS)


def test_clips_come_with_label_speaker_and_sound(corpus_folder: Path) -> None:
    with read_speech(corpus_folder, "train") as corpus:
        assert [clip.file for clip in corpus.clips] == ["a.flac", "b.flac"]  # no label, no row
        np.testing.assert_array_equal(corpus.label_index, [1, 3])
        assert corpus.speakers == ("S1", "S1")
        np.testing.assert_array_equal(corpus.samples(1, 16000), tone(400.0) / np.float32(32768))
        assert repr(corpus) == "SpeechCorpus(speech_tiny, 2 clips of 1 speakers)"


def test_dev_and_val_are_the_same_split(corpus_folder: Path) -> None:
    with read_speech(corpus_folder, "dev") as dev, read_speech(corpus_folder, "val") as val:
        assert dev.clips == val.clips
        assert dev.label_index.tolist() == [6]


def test_labels_count_in_the_order_of_the_model(corpus_folder: Path) -> None:
    with read_speech(corpus_folder, "train", labels=("angry", "happy", "surprise")) as corpus:
        assert corpus.label_index.tolist() == [1, 0]


def test_an_unknown_split_names_those_that_exist(corpus_folder: Path) -> None:
    with pytest.raises(DatasetError, match="split 'test'; splits: train, val"):
        read_speech(corpus_folder, "test")


def test_an_unknown_label_is_named_with_its_line(corpus_folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"meta.tsv:2: unknown label 'happy'"):
        read_speech(corpus_folder, "train", labels=("angry",))


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no meta.tsv"):
        read_speech(tmp_path, "train")


def test_a_table_without_its_columns_is_refused(corpus_folder: Path) -> None:
    (corpus_folder / "meta.tsv").write_text("file\tlabel7\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="lacks the columns speaker, split"):
        read_speech(corpus_folder, "train")


def test_a_clip_that_is_not_in_the_zip_is_named(corpus_folder: Path) -> None:
    with (corpus_folder / "meta.tsv").open("a", encoding="utf-8") as table:
        table.write("gone.flac\tS1\tF\tx\tsad\ttrain\t1\t1\t\n")
    with pytest.raises(DatasetError, match=r"gone\.flac"):
        read_speech(corpus_folder, "train")


def test_a_truncated_zip_is_refused(corpus_folder: Path) -> None:
    archive = corpus_folder / "audio_flac.zip"
    archive.write_bytes(archive.read_bytes()[:500])
    with pytest.raises(DatasetError, match=r"audio_flac\.zip is not a zip archive"):
        read_speech(corpus_folder, "train")


def test_a_broken_clip_is_named(corpus_folder: Path) -> None:
    with zipfile.ZipFile(corpus_folder / "audio_flac.zip", "w") as archive:
        for row in ROWS:
            archive.writestr(row[0], b"no sound at all")
    with (
        read_speech(corpus_folder, "train") as corpus,
        pytest.raises(DatasetError, match=r"speech_tiny/a\.flac"),
    ):
        corpus.samples(0, 16000)


def test_any_rate_and_channels_become_mono_at_the_rate_asked_for(tmp_path: Path) -> None:
    left = tone(300.0, rate=48000)
    stereo = np.stack([left, left], axis=1)
    path = tmp_path / "stereo.flac"
    path.write_bytes(flac(stereo, rate=48000, layout="stereo"))
    samples = decode_audio(path, 16000)
    assert samples.dtype == np.float32
    assert samples.size == pytest.approx(4000, abs=40)
    middle = samples[1000:3000].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(middle.size)))
    assert int(spectrum.argmax()) * 16000 / middle.size == pytest.approx(300.0, abs=8.0)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV")
    with pytest.raises(DatasetError, match=r"nothing\.flac cannot be decoded"):
        decode_audio(tmp_path / "nothing.flac", 16000)


def test_without_pyav_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgeemo\[media\]'"):
        decode_audio(b"", 16000)


@pytest.mark.parametrize("name", SPEECH_CORPORA)
def test_the_real_corpora_read(shared_data: Path, name: str) -> None:
    pytest.importorskip("av", reason="needs PyAV")
    with read_speech(shared_data / name, "train") as train, read_speech(shared_data / name, "dev") as dev:
        assert not set(train.speakers) & set(dev.speakers)
        assert set(train.label_index) == set(dev.label_index)
        samples = dev.samples(0, 16000)
        assert samples.size > 16000
        assert np.abs(samples).max() <= 1.01
