"""Reader of CMU-MOSI utterance features: text, audio and video of film reviews, with their sentiment.

Source: A. Zadeh et al., "MOSI: Multimodal Corpus of Sentiment Intensity and Subjectivity Analysis in
Online Opinion Videos", arXiv 1606.06259. One row is one utterance; a video is a monologue.

The features come from networks that were trained on the train videos, so train rows look far too easy:
they are for fitting alone, and nothing that is reported may come from them or be cut out of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import DatasetError

MODALITIES = ("audio", "video", "text")
"""In the canonical order of the engines."""

CLASSES = ("negative", "positive")
"""In the order of ``label2``."""

_FILE = "mosi_trimodal.npz"
_SPLITS = {"train": "train", "dev": "dev", "val": "dev", "test": "test"}
_COLUMNS = ("label2", "score", "utt_id", "video_id", "segment", "split", "transcript")
_SMALLEST_DEVIATION = 1e-6


@dataclass(frozen=True)
class MosiVideos:
    """One split, its videos padded to the longest of the whole file.

    Attributes:
        features: modality -> (V, T, D) float32, utterances in the order of the video; standardised
            with mean and deviation of each dimension over the train utterances; padding is zero.
        mask: (V, T) float32, 1 where there is an utterance.
        label: (V, T) int64, 0 negative, 1 positive, -1 padding.
        score: (V, T) float32, sentiment in -3..3; padding is zero.
        video_ids: one for each video, sorted.
        utterances: (V, T) identifier of each utterance, empty at padding.
    """

    features: dict[str, NDArray[np.float32]]
    mask: NDArray[np.float32]
    label: NDArray[np.int64]
    score: NDArray[np.float32]
    video_ids: tuple[str, ...]
    utterances: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.video_ids)

    @property
    def length(self) -> int:
        """T, the longest video of the file in utterances."""
        return int(self.mask.shape[1])

    @property
    def widths(self) -> dict[str, int]:
        """Modality -> D."""
        return {m: int(values.shape[2]) for m, values in self.features.items()}

    def __repr__(self) -> str:
        widths = ", ".join(f"{m} {width}" for m, width in self.widths.items())
        return f"MosiVideos({len(self)} videos, {int(self.mask.sum())} utterances, {widths})"


def read_mosi(folder: Path, split: str) -> MosiVideos:
    """Reads the videos of one split.

    Args:
        folder: holds ``mosi_trimodal.npz``: `text`, `audio` and `video` (N, D) float32, `label2`,
            `score`, `utt_id`, `video_id`, `segment` (order in the video), `split` and `transcript`,
            each (N,).
        split: "train", "dev" (or "val", the same) or "test".

    Raises:
        DatasetError: no such file or split, arrays that do not fit together or are not finite, a video
            in two splits, a segment twice in a video, or no train rows to standardise with.
    """
    if split not in _SPLITS:
        raise DatasetError(f"there is no split {split!r}; choose one of {', '.join(_SPLITS)}")
    path = Path(folder) / _FILE
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; a MOSI folder holds one {_FILE}")
    table = _read_table(path)
    videos = _rows_by_video(table, path)
    splits = {video: str(table["split"][rows[0]]) for video, rows in videos.items()}
    chosen = [video for video in sorted(videos) if splits[video] == _SPLITS[split]]
    if not chosen:
        raise DatasetError(
            f"{path} has no videos of split {split!r}; it has {', '.join(set(splits.values()))}"
        )
    train = np.flatnonzero(table["split"] == "train")
    if not len(train):
        raise DatasetError(f"{path} has no train rows, and features are standardised with those")
    length = max(len(rows) for rows in videos.values())
    columns = [videos[video] for video in chosen]
    mask = _padded([np.ones(len(rows), np.float32) for rows in columns], length)
    features = {}
    for m in MODALITIES:
        standard = _standardised(table[m], train)
        features[m] = _padded([standard[rows] for rows in columns], length)
    return MosiVideos(
        features=features,
        mask=mask,
        label=_padded([table["label2"][rows].astype(np.int64) for rows in columns], length, -1),
        score=_padded([table["score"][rows].astype(np.float32) for rows in columns], length),
        video_ids=tuple(chosen),
        utterances=_padded([table["utt_id"][rows] for rows in columns], length, ""),
    )


def _read_table(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            table = {name: file[name] for name in (*MODALITIES, *_COLUMNS)}
    except (OSError, ValueError, KeyError, BadZipFile) as reason:
        raise DatasetError(f"{path} cannot be read as MOSI features ({reason})") from reason
    count = len(table["split"])
    for name, array in table.items():
        if array.ndim != (2 if name in MODALITIES else 1) or len(array) != count:
            raise DatasetError(f"{path} does not fit together: {name} is {array.shape} for {count} rows")
    for m in MODALITIES:
        if not np.isfinite(table[m]).all():
            raise DatasetError(f"{path} has {m} features that are not finite")
    if not np.isin(table["label2"], (0, 1)).all():
        raise DatasetError(f"{path} has values of label2 other than 0 and 1: {np.unique(table['label2'])}")
    return table


def _rows_by_video(table: dict[str, NDArray[Any]], path: Path) -> dict[str, NDArray[np.int64]]:
    """Returns video -> its rows in the order of the segments."""
    found: dict[str, NDArray[np.int64]] = {}
    for video in np.unique(table["video_id"]):
        rows = np.flatnonzero(table["video_id"] == video)
        if len(np.unique(table["split"][rows])) > 1:
            raise DatasetError(f"{path}: video {video} is in two splits; its utterances would leak")
        order = table["segment"][rows]
        if len(np.unique(order)) < len(rows):
            raise DatasetError(f"{path}: video {video} has a segment number twice, so its order is unknown")
        found[str(video)] = rows[np.argsort(order)]
    return found


def _standardised(values: NDArray[Any], train: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns (N, D) with mean 0 and deviation 1 over the train rows; constant dimensions become 0."""
    mean = values[train].mean(axis=0, dtype=np.float64)
    deviation = values[train].std(axis=0, dtype=np.float64)
    varies = deviation > _SMALLEST_DEVIATION
    scaled = (values - mean) / np.where(varies, deviation, 1.0) * varies
    standard: NDArray[np.float32] = scaled.astype(np.float32)
    return standard


def _padded(rows: list[NDArray[Any]], length: int, fill: Any = 0) -> NDArray[Any]:
    """Returns arrays of up to ``length`` items as one (V, length, ...), the rest ``fill``."""
    out = np.full((len(rows), length, *rows[0].shape[1:]), fill, dtype=rows[0].dtype)
    for place, values in enumerate(rows):
        out[place, : len(values)] = values
    return out
