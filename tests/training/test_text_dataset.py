"""The text corpora are read as written: no quoting, every row, labels in the order of the seven."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeemo.datasets.labels import LABELS
from edgeemo.datasets.text import READERS, read_goemotions, read_isear_text, read_meld_text
from edgeemo.errors import DatasetError

GOEMOTIONS = (
    "id\tlabels28\tlabels7\ttext\n"
    'a1\tneutral\tneutral\t"Quoted\n'
    "a2\tapproval,neutral\tjoy,neutral\tYes. I see\u2028it\n"
    'a3\tgrief\tsadness\t5" tall and sad\n'
)
MELD = "dialogue\tutt\temotion\ttext\n0\t0\tsurprise\tWhat?\n0\t1\tanger\tGo!\n"
ISEAR = (
    "subject\tsplit\temotion\ttext\ns1\ttrain\tshame\tI hid.\ns1\ttrain\tjoy\tI won.\ns2\tdev\tfear\tDark.\n"
)


def test_goemotions_keeps_every_row_and_shares_several_labels(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(GOEMOTIONS, encoding="utf-8")
    rows = read_goemotions(tmp_path, "train")
    assert rows.texts == ['"Quoted', "Yes. I see\u2028it", '5" tall and sad']
    assert rows.labels.tolist() == [LABELS.index("neutral"), -1, LABELS.index("sad")]
    assert np.allclose(rows.targets[1], [0.5, 0.5, 0, 0, 0, 0, 0])
    assert np.allclose(rows.targets.sum(axis=1), 1)
    assert rows.fine[1] == ("approval", "neutral")
    assert rows.groups == ["a1", "a2", "a3"]
    assert len(rows) == 3


def test_meld_is_grouped_by_dialogue_and_val_means_dev(tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text(MELD, encoding="utf-8")
    rows = read_meld_text(tmp_path, "val")
    assert rows.labels.tolist() == [LABELS.index("surprise"), LABELS.index("angry")]
    assert rows.groups == ["0", "0"]
    assert rows.fine == [(), ()]


def test_isear_is_split_by_its_column_and_shame_is_none_of_the_seven(tmp_path: Path) -> None:
    (tmp_path / "isear.tsv").write_text(ISEAR, encoding="utf-8")
    rows = read_isear_text(tmp_path, "train")
    assert rows.labels.tolist() == [-1, LABELS.index("happy")]
    assert rows.targets[0].sum() == 0
    assert read_isear_text(tmp_path, "val").groups == ["s2"]


def test_a_missing_split_lists_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(GOEMOTIONS, encoding="utf-8")
    with pytest.raises(DatasetError, match="no split 'test'; there are: train"):
        read_goemotions(tmp_path, "test")
    (tmp_path / "isear.tsv").write_text(ISEAR, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"no rows of split 'test'; it has \['dev', 'train'\]"):
        read_isear_text(tmp_path, "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOEMOTIONS.replace("labels7", "labels"), "lacks the columns"),
        (GOEMOTIONS + "a4\tneutral\n", "line 5 has 2 columns, expected 4"),
        (GOEMOTIONS.replace("sadness\t5", "gloom\t5"), "row 3 has the unknown label 'gloom'"),
    ],
)
def test_a_broken_file_is_refused_by_place(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "train.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_goemotions(tmp_path, "train")


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "isear.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read_isear_text(tmp_path, "train")
    with pytest.raises(DatasetError, match="cannot read"):
        read_isear_text(tmp_path / "nowhere", "train")


def test_the_real_corpora_have_the_documented_sizes(shared_data: Path) -> None:
    sizes = {name: len(READERS[name](shared_data / name, "dev")) for name in ("goemotions", "meld_text")}
    assert sizes == {"goemotions": 5426, "meld_text": 1109}
    isear = READERS["isear_text"](shared_data / "isear_text", "train")
    held = READERS["isear_text"](shared_data / "isear_text", "dev")
    assert len(isear) + len(held) == 6817
    assert not set(isear.groups) & set(held.groups)
