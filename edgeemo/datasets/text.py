"""Readers of the text corpora: sentences with one of seven emotions, or several.

The files are tab separated with a header and no quoting at all: a quote character is part of the
sentence. Rows come back in the order of the file, none left out, so that row numbers mean the same to
everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.datasets.labels import LABELS
from edgeemo.errors import DatasetError

_INDEX_FROM_NAME = {
    "neutral": 0,
    "joy": 1,
    "sadness": 2,
    "anger": 3,
    "fear": 4,
    "disgust": 5,
    "surprise": 6,
}
_OUTSIDE = frozenset({"shame", "guilt"})  # ISEAR's two emotions that are none of the seven
_SYNONYMS = {"val": ("val", "dev"), "dev": ("dev", "val")}


@dataclass(frozen=True)
class TextRows:
    """One split of a text corpus, in the order of its file.

    Attributes:
        texts: n sentences as they were written.
        labels: (n,) index into `LABELS` where a row has exactly one of the seven, else -1; accuracy
            is taken over the rows with a label.
        targets: (n, 7) shares of the seven labels, each row summing to 1, or to 0 where it has none.
        groups: n names of what must not be divided between splits: a subject, a dialogue, a comment.
        fine: n tuples of the corpus's own finer labels (GoEmotions' 28), empty elsewhere.
    """

    texts: list[str]
    labels: NDArray[np.int64]
    targets: NDArray[np.float32]
    groups: list[str]
    fine: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.texts)


def read_goemotions(folder: Path, split: str) -> TextRows:
    """Returns Reddit comments; a row may bear several of the seven labels, see `TextRows.targets`.

    Args:
        folder: holds ``train.tsv``, ``dev.tsv`` or ``test.tsv`` with ``id labels28 labels7 text``.
        split: ``train``, ``dev`` (or ``val``) or ``test``.

    Raises:
        DatasetError: no file for this split, or one in another format; the line is named.

    Source: Demszky et al., "GoEmotions: A Dataset of Fine-Grained Emotions", ACL 2020.
    """
    table = _read_table(_split_file(folder, split), ("id", "labels28", "labels7", "text"))
    return _text_rows(
        table["text"],
        [tuple(value.split(",")) for value in table["labels7"]],
        table["id"],
        [tuple(value.split(",")) for value in table["labels28"]],
    )


def read_meld_text(folder: Path, split: str) -> TextRows:
    """Returns lines of television dialogue, grouped by dialogue.

    Args:
        folder: holds ``train.tsv``, ``dev.tsv`` or ``test.tsv`` with ``dialogue emotion text`` and more.
        split: ``train``, ``dev`` (or ``val``) or ``test``.

    Raises:
        DatasetError: no file for this split, or one in another format; the line is named.

    Source: Poria et al., "MELD: A Multimodal Multi-Party Dataset", ACL 2019.
    """
    table = _read_table(_split_file(folder, split), ("dialogue", "emotion", "text"))
    return _text_rows(table["text"], [(value,) for value in table["emotion"]], table["dialogue"])


def read_isear_text(folder: Path, split: str) -> TextRows:
    """Returns what people wrote about a time they felt something, grouped by subject.

    Five of its seven emotions are shared; rows of shame and guilt have label -1.

    Args:
        folder: holds ``isear.tsv`` with ``subject split emotion text``; splits are by subject.
        split: a value of the column ``split``; ``val`` and ``dev`` are synonyms.

    Raises:
        DatasetError: no such file or split, or another format; the line is named.

    Source: Scherer and Wallbott, International Survey on Emotion Antecedents and Reactions, 1994.
    """
    path = folder / "isear.tsv"
    table = _read_table(path, ("subject", "split", "emotion", "text"))
    wanted = _SYNONYMS.get(split, (split,))
    kept = [row for row, value in enumerate(table["split"]) if value in wanted]
    if not kept:
        raise DatasetError(f"{path} has no rows of split {split!r}; it has {sorted(set(table['split']))}")
    return _text_rows(
        [table["text"][row] for row in kept],
        [(table["emotion"][row],) for row in kept],
        [table["subject"][row] for row in kept],
    )


READERS: dict[str, Callable[[Path, str], TextRows]] = {
    "goemotions": read_goemotions,
    "meld_text": read_meld_text,
    "isear_text": read_isear_text,
}


def _split_file(folder: Path, split: str) -> Path:
    for name in _SYNONYMS.get(split, (split,)):
        path = folder / f"{name}.tsv"
        if path.is_file():
            return path
    found = sorted(path.stem for path in folder.glob("*.tsv"))
    raise DatasetError(f"{folder} has no split {split!r}; there are: {', '.join(found) or 'none'}")


def _read_table(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """Returns the columns asked for of a tab-separated file without quoting."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except OSError as reason:
        raise DatasetError(f"cannot read {path}: {reason}") from reason
    except UnicodeDecodeError as reason:
        raise DatasetError(f"{path} is not UTF-8 text: {reason}") from reason
    header = lines[0].rstrip("\r").split("\t")
    missing = [name for name in columns if name not in header]
    if missing:
        raise DatasetError(f"{path} lacks the columns {missing}; its header is {header}")
    places = [header.index(name) for name in columns]
    table: dict[str, list[str]] = {name: [] for name in columns}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip("\r"):
            continue
        cells = line.rstrip("\r").split("\t")
        if len(cells) != len(header):
            raise DatasetError(f"{path} line {number} has {len(cells)} columns, expected {len(header)}")
        for name, place in zip(columns, places, strict=True):
            table[name].append(cells[place])
    return table


def _text_rows(
    texts: list[str],
    names: Sequence[tuple[str, ...]],
    groups: list[str],
    fine: list[tuple[str, ...]] | None = None,
) -> TextRows:
    labels = np.full(len(texts), -1, np.int64)
    targets = np.zeros((len(texts), len(LABELS)), np.float32)
    for row, given in enumerate(names):
        unknown = [name for name in given if name not in _INDEX_FROM_NAME and name not in _OUTSIDE]
        if unknown:
            raise DatasetError(
                f"row {row + 1} has the unknown label {unknown[0]!r}; "
                f"known are {sorted([*_INDEX_FROM_NAME, *_OUTSIDE])}"
            )
        shared = [_INDEX_FROM_NAME[name] for name in given if name in _INDEX_FROM_NAME]
        if len(shared) == 1:
            labels[row] = shared[0]
        targets[row, shared] = 1 / max(1, len(shared))
    return TextRows(texts, labels, targets, groups, fine or [()] * len(texts))
