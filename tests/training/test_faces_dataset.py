"""The FER+ reader: votes to soft labels, majority labels, broken files."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeemo.datasets.faces import read_ferplus
from edgeemo.datasets.labels import LABELS
from edgeemo.errors import DatasetError, MissingDependencyError

VOTES = np.array(
    [
        # neutral happiness surprise sadness anger disgust fear contempt unknown NF
        [0, 10, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 6, 0, 0, 1, 2, 0, 0],
        [0, 0, 0, 0, 3, 4, 3, 0, 0, 0],
        [0, 0, 2, 0, 0, 0, 0, 8, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
        [0, 0, 5, 0, 0, 0, 5, 0, 0, 0],
    ],
    dtype=np.uint8,
)
SPLIT = np.array([1, 1, 1, 1, 1, 0], dtype=np.uint8)


def jpegs(count: int, size: int = 48) -> list[NDArray[np.uint8]]:
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV")
    ramp = np.linspace(0, 60, size * size).reshape(size, size)
    return [cv2.imencode(".jpg", (ramp + 30 * k).astype(np.uint8))[1].ravel() for k in range(count)]


def write(folder: Path, **changed: Any) -> Path:
    images = changed.pop("images", None) or jpegs(len(VOTES))
    arrays = {
        "jpeg": np.concatenate(images),
        "offsets": np.cumsum([0, *map(len, images)]),
        "votes": VOTES,
        "split": SPLIT,
    }
    np.savez(folder / "ferplus_jpeg.npz", **(arrays | changed))
    return folder


def test_votes_become_soft_and_majority_labels(tmp_path: Path) -> None:
    faces = read_ferplus(write(tmp_path), "val")
    names = [LABELS[label] if label >= 0 else None for label in faces.label]
    # Four votes are no majority, contempt and "no face" are none of the seven.
    assert names == ["happy", "sad", None, None, None]
    np.testing.assert_allclose(faces.soft[1], np.array([1, 0, 6, 0, 1, 0, 0]) / 8, rtol=1e-6)
    np.testing.assert_allclose(faces.soft[2], np.array([0, 0, 0, 3, 3, 4, 0]) / 10, rtol=1e-6)
    np.testing.assert_allclose(faces.soft.sum(axis=1), [1, 1, 1, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(faces.share, [1, 0.8, 1, 0.2, 0], rtol=1e-6)
    assert faces.soft.dtype == faces.share.dtype == np.float32
    assert repr(faces) == "FaceImages(5 faces, 2 with a majority label)"


def test_images_are_those_of_their_rows(tmp_path: Path) -> None:
    folder = write(tmp_path)
    val, train = read_ferplus(folder, "val"), read_ferplus(folder, "train")
    assert val.images.shape == (5, 48, 48)
    assert val.images.dtype == np.uint8
    levels = val.images.mean(axis=(1, 2))
    np.testing.assert_allclose(np.diff(levels), 30, atol=1)
    np.testing.assert_allclose(train.images.mean() - levels[-1], 30, atol=1)
    assert LABELS[train.label[0]] == "surprise"  # five to five: the file's first column counts


def test_split_words(tmp_path: Path) -> None:
    folder = write(tmp_path, split=np.array([1, 1, 2, 2, 2, 0], dtype=np.uint8))
    assert len(read_ferplus(folder, "val")) == len(read_ferplus(folder, "dev")) == 2
    assert len(read_ferplus(folder, "test")) == 3
    with pytest.raises(DatasetError, match="no split 'valid'; choose one of train, val, dev, test"):
        read_ferplus(folder, "valid")


def test_split_without_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no rows of split 'test'"):
        read_ferplus(write(tmp_path), "test")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"ferplus_jpeg\.npz does not exist"):
        read_ferplus(tmp_path, "val")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"votes": VOTES[:, :8]}, r"does not fit together: votes \(6, 8\)"),
        ({"votes": VOTES[:4]}, "does not fit together"),
        ({"jpeg": np.zeros(9, np.float32)}, "float32"),
        ({"offsets": np.arange(7) * 10**6}, "offsets.*do not rise within"),
        ({"offsets": np.array([0, 5, 3, 6, 7, 8, 9])}, "offsets.*do not rise"),
        ({"jpeg": np.zeros(10**4, np.uint8)}, "image 0 of .* cannot be decoded"),
    ],
)
def test_broken_arrays_are_named(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        read_ferplus(write(tmp_path, **changed), "val")


def test_image_of_another_size_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, images=[*jpegs(2), *jpegs(1, size=32), *jpegs(3)])
    with pytest.raises(DatasetError, match=r"image 2 of .* is 32x32; expected 48x48"):
        read_ferplus(folder, "val")


def test_truncated_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path) / "ferplus_jpeg.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DatasetError, match="cannot be read as FER"):
        read_ferplus(tmp_path, "val")
    np.savez(path, jpeg=np.zeros(4, np.uint8))
    with pytest.raises(DatasetError, match=r"cannot be read as FER.*offsets"):
        read_ferplus(tmp_path, "val")


def test_missing_opencv_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real = write(tmp_path), builtins.__import__

    def without_cv2(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cv2":
            raise ImportError("no cv2 here")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_cv2)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgeemo\[camera\]'"):
        read_ferplus(folder, "val")


def test_real_validation_split(shared_data: Path) -> None:
    faces = read_ferplus(shared_data / "ferplus", "val")
    assert len(faces) == 3510
    counts = {name: int((faces.label == index).sum()) for index, name in enumerate(LABELS)}
    assert counts == {
        "neutral": 1195,
        "happy": 863,
        "sad": 343,
        "angry": 281,
        "fear": 57,
        "disgust": 21,
        "surprise": 387,
    }
