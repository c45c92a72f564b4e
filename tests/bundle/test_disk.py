"""A folder in another's place: the old or the new one is there whole, whatever ends the replacement."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeemo.bundle.disk import replace_folder


def folder(place: Path, words: str) -> Path:
    place.mkdir()
    (place / "words").write_text(words)
    return place


def words_in(place: Path) -> str:
    return (place / "words").read_text()


@pytest.mark.parametrize("there", [False, True])
def test_the_new_one_is_there_and_nothing_else(tmp_path: Path, there: bool) -> None:
    place, fresh = tmp_path / "place", folder(tmp_path / "fresh", "new")
    if there:
        folder(place, "old")
    replace_folder(fresh, place)
    assert words_in(place) == "new"
    assert os.listdir(tmp_path) == ["place"]


def test_where_the_disk_refuses_the_old_one_is_there_again(tmp_path: Path) -> None:
    place = folder(tmp_path / "place", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "nothing", place)
    assert words_in(place) == "old"
    assert os.listdir(tmp_path) == ["place"]


def test_what_a_killed_run_had_set_aside_is_put_back_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, fresh = folder(tmp_path / "place", "old"), folder(tmp_path / "fresh", "new")
    rename = os.replace

    def killed_before_the_second(source: Path, target: Path) -> None:
        if source == fresh:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed_before_the_second)
        with pytest.raises(KeyboardInterrupt):
            replace_folder(fresh, place)
    assert not place.exists()
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "nothing", place)
    assert words_in(place) == "old"
    replace_folder(fresh, place)
    assert words_in(place) == "new"
    assert os.listdir(tmp_path) == ["place"]
