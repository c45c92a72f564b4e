"""Which of the known data layouts a folder is, told by what lies in it, not by its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeemo.bundle import Manifest
from edgeemo.errors import DatasetError

SPEECH, FACES, TEXT = "speech", "faces", "text"
LAYOUTS = (
    "speech (meta.tsv beside audio_flac.zip or audio_opus.zip), faces (ferplus_jpeg.npz), GoEmotions or "
    "MELD text (train.tsv, dev.tsv or test.tsv), ISEAR text (isear.tsv)"
)
_FEATURES = "mosi_trimodal.npz"
_RECORDINGS = (".mp4", ".mkv", ".mov", ".webm", ".wav")


@dataclass(frozen=True)
class Layout:
    """What a folder holds.

    Attributes:
        kind: ``speech``, ``faces`` or ``text``.
        serves: the modality whose sensor such data stands for.
        corpus: which of the text corpora it is, a key of `edgeemo.datasets.text.READERS`; else empty.
    """

    kind: str
    serves: str
    corpus: str = ""


def layout_of(folder: Path, manifest: Manifest) -> Layout:
    """Returns the layout of a folder.

    Args:
        folder: a data set.
        manifest: of the bundle that is to be measured; only named in refusals.

    Raises:
        DatasetError: there is no such folder, or it holds nothing that the bundle's front-ends take and
            that has emotion labels; the message says what was found instead.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder; give the folder of a data set")
    if (folder / "meta.tsv").is_file():
        return Layout(SPEECH, "audio")
    if (folder / "ferplus_jpeg.npz").is_file():
        return Layout(FACES, "video")
    if (folder / "isear.tsv").is_file():
        return Layout(TEXT, "text", "isear_text")
    if (folder / _FEATURES).is_file():
        raise DatasetError(_why_features_are_refused(folder / _FEATURES, manifest))
    for table in (folder / f"{split}.tsv" for split in ("train", "dev", "val", "test")):
        if table.is_file():
            return _text_layout(table)
    found = sorted(path.name for path in folder.iterdir())
    if any(name.lower().endswith(_RECORDINGS) for name in found):
        raise DatasetError(
            f"{folder} holds recordings without labels, so there is nothing to measure against; see what "
            f"is recognised in them with `edgeemo run --media FILE`. Known layouts: {LAYOUTS}"
        )
    listed = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
    raise DatasetError(f"{folder} is no known layout; it holds: {listed or 'nothing'}. Known: {LAYOUTS}")


def _text_layout(table: Path) -> Layout:
    with table.open(encoding="utf-8", errors="replace") as lines:
        columns = lines.readline().rstrip("\r\n").split("\t")
    if "labels7" in columns:
        return Layout(TEXT, "text", "goemotions")
    if "emotion" in columns:
        return Layout(TEXT, "text", "meld_text")
    raise DatasetError(f"{table} has the columns {', '.join(columns)}; known layouts: {LAYOUTS}")


def _why_features_are_refused(path: Path, manifest: Manifest) -> str:
    try:
        with np.load(path, allow_pickle=False) as file:
            widths = {name: file[name].shape[-1] for name in ("audio", "video", "text") if name in file}
    except (OSError, ValueError) as reason:
        return f"{path} cannot be read ({reason})"
    has = ", ".join(f"{name} {width}" for name, width in widths.items())
    takes = ", ".join(f"{modality.name} {modality.feature_width}" for modality in manifest.modalities)
    return (
        f"{path} holds features that other front-ends computed, of width {has}; the engines of "
        f"{manifest.model_id!r} take the features of their own stems, of width {takes}, and there is no "
        f"sound, face or sentence here to compute them from. Known layouts: {LAYOUTS}"
    )
