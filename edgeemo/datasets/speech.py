"""Reader of the speech corpora: a stored zip of clips beside ``meta.tsv``."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.datasets.audio_files import decode_audio
from edgeemo.datasets.labels import LABELS
from edgeemo.errors import DatasetError

SPEECH_CORPORA = ("speech_ravdess", "speech_nemo_pl", "speech_emodb")
_COLUMNS = ("file", "speaker", "label7", "split")
_NO_LABEL = "-"  # an emotion that is none of the seven, such as boredom
_SYNONYMS = {"dev": "val", "val": "dev"}


@dataclass(frozen=True)
class SpeechClip:
    """One recording of a corpus: where it is, who speaks, and the emotion (index into the labels)."""

    file: str
    speaker: str
    label: int
    split: str


class SpeechCorpus:
    """The labelled clips of one split; sound is decoded when it is asked for.

    Attributes:
        name: folder name, such as ``speech_ravdess``.
        clips: rows of ``meta.tsv`` in its order; those of none of the labels are left out.
        labels: the words that ``SpeechClip.label`` counts in.
    """

    def __init__(self, folder: Path, clips: Sequence[SpeechClip], labels: Sequence[str]) -> None:
        self.name = folder.name
        self.clips = tuple(clips)
        self.labels = tuple(labels)
        self._zip = zipfile.ZipFile(_archive(folder))
        missing = sorted({clip.file for clip in clips} - set(self._zip.namelist()))
        if missing:
            self.close()
            raise DatasetError(
                f"{folder}: {len(missing)} clips of meta.tsv are not in the zip, first {missing[0]}"
            )

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        speakers = len(set(self.speakers))
        return f"SpeechCorpus({self.name}, {len(self)} clips of {speakers} speakers)"

    def __enter__(self) -> SpeechCorpus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the zip; may be called again."""
        self._zip.close()

    @property
    def label_index(self) -> NDArray[np.int64]:
        """(N,) index of the label of every clip."""
        return np.array([clip.label for clip in self.clips], np.int64)

    @property
    def speakers(self) -> tuple[str, ...]:
        """Speaker of every clip."""
        return tuple(clip.speaker for clip in self.clips)

    def samples(self, index: int, rate: int) -> NDArray[np.float32]:
        """Returns clip ``index`` as (N,) mono float32 at ``rate`` Hz.

        Raises:
            MissingDependencyError: PyAV is not installed.
            DatasetError: the clip is broken.
        """
        file = self.clips[index].file
        try:
            return decode_audio(self._zip.read(file), rate)
        except (DatasetError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{self.name}/{file}: {error}") from error


def read_speech(folder: Path, split: str, *, labels: Sequence[str] = LABELS) -> SpeechCorpus:
    """Returns one split of a speech corpus.

    Args:
        folder: holds ``meta.tsv`` and ``audio_flac.zip`` or ``audio_opus.zip``.
        split: as the column names it, such as ``train``; ``dev`` and ``val`` mean the same.
        labels: label words, in the order of the model.

    Raises:
        DatasetError: a file or column is missing, the split is not there, or nothing in it is labelled.
    """
    clips = _read_meta(folder, labels)
    splits = sorted({clip.split for clip in clips})
    wanted = split if split in splits else _SYNONYMS.get(split, split)
    chosen = [clip for clip in clips if clip.split == wanted and clip.label >= 0]
    if not chosen:
        raise DatasetError(
            f"{folder} has no labelled clips in split {split!r}; splits: {', '.join(splits) or 'none'}"
        )
    return SpeechCorpus(folder, chosen, labels)


def _read_meta(folder: Path, labels: Sequence[str]) -> list[SpeechClip]:
    table = folder / "meta.tsv"
    if not table.is_file():
        raise DatasetError(f"{folder} is no speech corpus: it has no meta.tsv")
    index = {word: number for number, word in enumerate(labels)}
    with table.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise DatasetError(f"{table} lacks the columns {', '.join(missing)}; it has {rows.fieldnames}")
        clips = []
        for number, row in enumerate(rows, start=2):
            word = row["label7"]
            if word not in index and word != _NO_LABEL:
                raise DatasetError(
                    f"{table}:{number}: unknown label {word!r}; known: {', '.join(labels)} and -"
                )
            clips.append(SpeechClip(row["file"], row["speaker"], index.get(word, -1), row["split"]))
    return clips


def _archive(folder: Path) -> Path:
    found = [folder / name for name in ("audio_flac.zip", "audio_opus.zip") if (folder / name).is_file()]
    if not found:
        raise DatasetError(f"{folder} has neither audio_flac.zip nor audio_opus.zip")
    if not zipfile.is_zipfile(found[0]):
        raise DatasetError(f"{found[0]} is not a zip archive, or is cut short")
    return found[0]
