"""Reader of FER+ faces: 48x48 grey images with ten crowd votes each.

Source: E. Barsoum et al., "Training deep networks for facial expression recognition with
crowd-sourced label distribution", ICMI 2016 (FER+ votes over the FER2013 images).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import DatasetError, MissingDependencyError

FERPLUS_COLUMNS = (0, 1, 3, 4, 6, 5, 2)
"""Vote columns of `LABELS`; the file's own order is neutral, happiness, surprise, sadness,
anger, disgust, fear, contempt, unknown, no face."""

_FILE = "ferplus_jpeg.npz"
_SPLITS = {"train": 0, "val": 1, "dev": 1, "test": 2}
_SIZE = 48
_MAJORITY_VOTES = 5


@dataclass(frozen=True)
class FaceImages:
    """One split of FER+.

    Attributes:
        images: (N, 48, 48) uint8 grey levels.
        soft: (N, 7) float32, the votes over `LABELS` divided by their sum; all zeros where
            nobody voted for any of the seven.
        share: (N,) float32, the part of all votes that went to the seven.
        label: (N,) int64, the majority over all ten columns where it is one of the seven and has
            at least five of the ten votes, else -1. Of two labels with five votes each the first
            in the file's order counts.
    """

    images: NDArray[np.uint8]
    soft: NDArray[np.float32]
    share: NDArray[np.float32]
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"FaceImages({len(self)} faces, {int((self.label >= 0).sum())} with a majority label)"


def read_ferplus(folder: Path, split: str) -> FaceImages:
    """Reads and decodes one split of FER+.

    Args:
        folder: holds ``ferplus_jpeg.npz``: `jpeg` (one uint8 blob), `offsets` (N+1), `votes` (N, 10)
            and `split` (N,) with 0 train, 1 val, 2 test.
        split: "train", "val" (or "dev", the same) or "test".

    Raises:
        DatasetError: no such file or split, arrays that do not fit together, an image that cannot
            be decoded or is not 48x48.
        MissingDependencyError: OpenCV, which decodes the images, is not installed.
    """
    if split not in _SPLITS:
        raise DatasetError(f"there is no split {split!r}; choose one of {', '.join(_SPLITS)}")
    path = Path(folder) / _FILE
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; a FER+ folder holds one {_FILE}")
    jpeg, offsets, votes, codes = _read_arrays(path)
    rows = np.flatnonzero(codes == _SPLITS[split])
    if not len(rows):
        raise DatasetError(f"{path} has no rows of split {split!r} (code {_SPLITS[split]})")
    cv2 = _load_cv2()
    images = np.empty((len(rows), _SIZE, _SIZE), dtype=np.uint8)
    for index, row in enumerate(rows):
        images[index] = _decode(cv2, jpeg[offsets[row] : offsets[row + 1]], f"image {row} of {path}")
    chosen = votes[rows].astype(np.int64)  # (N, 10)
    return FaceImages(images, *_targets(chosen))


def _targets(
    votes: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Soft labels (N, 7), share of the votes they stand for (N,) and majority labels (N,)."""
    seven = votes[:, FERPLUS_COLUMNS]
    known, cast = seven.sum(axis=1), votes.sum(axis=1)
    soft = seven / np.maximum(known, 1)[:, None]
    share = known / np.maximum(cast, 1)
    label_of_column = np.full(votes.shape[1], -1, dtype=np.int64)
    label_of_column[list(FERPLUS_COLUMNS)] = np.arange(len(FERPLUS_COLUMNS))
    label = np.where(votes.max(axis=1) >= _MAJORITY_VOTES, label_of_column[votes.argmax(axis=1)], -1)
    return soft.astype(np.float32), share.astype(np.float32), label


def _read_arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            jpeg, offsets = file["jpeg"], file["offsets"]
            votes, codes = file["votes"], file["split"]
    except (OSError, ValueError, KeyError, BadZipFile) as reason:
        raise DatasetError(f"{path} cannot be read as FER+ ({reason})") from reason
    count = len(codes)
    if votes.shape != (count, 10) or offsets.shape != (count + 1,) or jpeg.dtype != np.uint8:
        raise DatasetError(
            f"{path} does not fit together: votes {votes.shape}, offsets {offsets.shape} and jpeg "
            f"{jpeg.dtype} for {count} rows; expected ({count}, 10), ({count + 1},) and uint8"
        )
    if offsets[0] < 0 or offsets[-1] > len(jpeg) or bool(np.any(np.diff(offsets) <= 0)):
        raise DatasetError(f"the offsets in {path} do not rise within the {len(jpeg)} bytes of its images")
    return jpeg, offsets, votes, codes


def _decode(cv2: Any, data: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] | None = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DatasetError(f"{where} cannot be decoded: its {len(data)} bytes are no whole JPEG")
    if image.shape != (_SIZE, _SIZE):
        raise DatasetError(f"{where} is {image.shape[1]}x{image.shape[0]}; expected {_SIZE}x{_SIZE}")
    return image


def _load_cv2() -> Any:
    try:
        import cv2
    except (ImportError, OSError):
        raise MissingDependencyError(
            "reading face images", "OpenCV", "pip install 'edgeemo[camera]'"
        ) from None
    return cv2
