"""The MOSI reader: videos in order, padded, standardised by train rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_mosi import tiny_table, write_tiny_mosi

from edgeemo.datasets.mosi import MODALITIES, read_mosi
from edgeemo.errors import DatasetError


def test_videos_are_sequences_in_segment_order(tmp_path: Path) -> None:
    table = write_tiny_mosi(tmp_path)
    for split in ("train", "dev"):
        videos = read_mosi(tmp_path, split)
        assert videos.video_ids == tuple(sorted(set(table["video_id"][table["split"] == split])))
        for place, video in enumerate(videos.video_ids):
            rows = np.flatnonzero(table["video_id"] == video)
            rows = rows[np.argsort(table["segment"][rows])]
            count = len(rows)
            assert videos.mask[place].tolist() == [1.0] * count + [0.0] * (videos.length - count)
            assert videos.utterances[place, :count].tolist() == table["utt_id"][rows].tolist()
            assert videos.label[place].tolist()[:count] == table["label2"][rows].tolist()
            assert (videos.label[place, count:] == -1).all()
            assert not videos.features["text"][place, count:].any()


def test_features_are_standardised_by_train_rows_alone(tmp_path: Path) -> None:
    table = tiny_table()
    table["audio"][table["split"] == "dev"] += 100.0
    table["video"][:, 0] = 7.0
    write_tiny_mosi(tmp_path, table)
    train, dev = read_mosi(tmp_path, "train"), read_mosi(tmp_path, "dev")
    for m in MODALITIES:
        valid = train.features[m][train.mask > 0]
        np.testing.assert_allclose(valid.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(valid[:, 1:].std(axis=0), 1, atol=1e-3)
    assert dev.features["audio"][dev.mask > 0].mean() > 10
    assert not train.features["video"][..., 0].any()  # a constant dimension says nothing


def test_val_is_a_synonym_of_dev(tmp_path: Path) -> None:
    write_tiny_mosi(tmp_path)
    assert read_mosi(tmp_path, "val").video_ids == read_mosi(tmp_path, "dev").video_ids


def spoil_segment(table: dict[str, Any]) -> None:
    table["segment"][1] = table["segment"][0]


def spoil_split(table: dict[str, Any]) -> None:
    table["split"][0] = "dev"


def spoil_length(table: dict[str, Any]) -> None:
    table["score"] = table["score"][:-1]


def spoil_number(table: dict[str, Any]) -> None:
    table["text"][3, 1] = np.nan


def spoil_label(table: dict[str, Any]) -> None:
    table["label2"][0] = 2


def spoil_column(table: dict[str, Any]) -> None:
    del table["video_id"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_segment, "segment number twice"),
        (spoil_split, "in two splits"),
        (spoil_length, "does not fit together: score"),
        (spoil_number, "text features that are not finite"),
        (spoil_label, "label2 other than 0 and 1"),
        (spoil_column, "cannot be read as MOSI"),
    ],
)
def test_a_broken_file_is_refused_with_the_reason(tmp_path: Path, spoil: Any, message: str) -> None:
    table = tiny_table()
    spoil(table)
    write_tiny_mosi(tmp_path, table)
    with pytest.raises(DatasetError, match=message):
        read_mosi(tmp_path, "train")


def test_missing_file_and_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        read_mosi(tmp_path, "train")
    with pytest.raises(DatasetError, match="choose one of train, dev, val, test"):
        read_mosi(tmp_path, "all")
    write_tiny_mosi(tmp_path)
    with pytest.raises(DatasetError, match="no videos of split 'test'"):
        read_mosi(tmp_path, "test")


def test_pickled_content_is_not_loaded(tmp_path: Path) -> None:
    table = tiny_table()
    table["transcript"] = np.array([{}] * len(table["split"]), dtype=object)
    np.savez(tmp_path / "mosi_trimodal.npz", **table)
    with pytest.raises(DatasetError, match="cannot be read as MOSI"):
        read_mosi(tmp_path, "dev")


def test_the_real_file(shared_data: Path) -> None:
    train, dev = (read_mosi(shared_data / "mosi_trimodal", split) for split in ("train", "dev"))
    assert (len(train), int(train.mask.sum())) == (62, 1447)
    assert (len(dev), int(dev.mask.sum())) == (16, 326)
    assert train.widths == {"audio": 73, "video": 100, "text": 100}
    assert int((dev.label == 1).sum()) == 198
