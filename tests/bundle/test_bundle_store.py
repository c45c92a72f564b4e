"""Opening, reading and committing bundles: nothing unverified comes out, nothing half-written stays."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from plain_bundle import write_bundle

from edgeemo.bundle import Bundle, BundleWriter, json_from_manifest
from edgeemo.errors import BundleError, ExportError, InputError, SubsetError


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundle")


SHARED = f"weights/int8.{hashlib.sha256(b'first shared' * 20).hexdigest()[:12]}.bin"


def contents(folder: Path) -> set[str]:
    """Names of the files in a bundle's folder, but for the manifest and the lock."""
    names = {place.relative_to(folder).as_posix() for place in folder.rglob("*") if place.is_file()}
    return names - {"manifest.json", ".lock"}


def engine_file(bundle: Bundle) -> Path:
    return bundle.engine_path("audio+text", "int8")


def test_reading_gives_what_was_written(bundle: Bundle) -> None:
    again = Bundle.open(str(bundle.path))
    again.verify()
    assert again.manifest == bundle.manifest
    assert again.read_engine("text+audio", "int8").model == b"first audio+text int8" * 50
    assert again.read_stem("text", "fp32").model == b"first stem text"
    assert again.variants("audio") == ("fp32", "int8")
    assert again.stem_path("audio", "fp32").is_file()
    np.testing.assert_array_equal(again.reference()["logits.audio"], [0, 1, 2])
    assert engine_file(again).name.startswith("audio+text.int8.")
    assert again.report() is None
    assert again.recipe() == b'recipe = "first"'
    assert bytes(again.read_engine("audio", "int8").weights[SHARED]) == b"first shared" * 20
    assert not again.read_engine("audio", "fp32").weights


def test_a_bundle_of_version_1_opens_and_becomes_one_of_version_2(bundle: Bundle) -> None:
    place = bundle.path / "manifest.json"
    data = json.loads(place.read_bytes())
    shared = {name for files in data.pop("weights").values() for name in files}
    for name in (*shared, data.pop("recipe")):
        del data["files"][name]
    data["format_version"] = 1
    place.write_text(json.dumps(data))
    old = Bundle.open(bundle.path)
    old.verify()
    assert old.read_engine("audio", "int8").model == b"first audio int8" * 50
    assert not old.read_engine("audio", "int8").weights
    assert old.recipe() is None
    with BundleWriter(bundle.path) as writer:
        new = writer.commit(old.manifest)
    assert new.manifest == old.manifest
    assert json.loads(place.read_bytes())["format_version"] == 2


def test_repr_answers_what_is_this(bundle: Bundle) -> None:
    shown = repr(bundle)
    for part in ("'first'", "3 engines over audio, text in fp32, int8", "2 labels every 0.5 s", "CC0-1.0"):
        assert part in shown


def test_asking_for_what_is_not_there_lists_what_is(bundle: Bundle) -> None:
    with pytest.raises(SubsetError, match="unknown modality 'video'; this model has: audio, text"):
        bundle.read_engine("audio+video", "int8")
    with pytest.raises(InputError, match="no variant 'fp16'; it has: fp32, int8"):
        bundle.read_engine("audio", "fp16")
    with pytest.raises(SubsetError, match="unknown modality 'video'"):
        bundle.read_stem("video", "fp32")
    with pytest.raises(InputError, match="the stem of 'text' has no variant 'int8'"):
        bundle.read_stem("text", "int8")
    with pytest.raises(BundleError, match=r"'manifest.json' is not listed"):
        bundle.read_file("manifest.json")


def test_a_truncated_file_is_named_with_both_sizes(bundle: Bundle) -> None:
    place = engine_file(bundle)
    size = place.stat().st_size
    os.truncate(place, 17)
    with pytest.raises(
        BundleError, match=rf"{re.escape(place.name)}: 17 bytes, the manifest promises {size}"
    ):
        Bundle.open(bundle.path)
    with pytest.raises(BundleError, match=rf"{re.escape(place.name)}: 17 bytes"):
        bundle.read_engine("audio+text", "int8")


def test_a_tampered_file_is_named_with_both_hashes(bundle: Bundle) -> None:
    place = engine_file(bundle)
    data = bytearray(place.read_bytes())
    data[100] ^= 1
    place.write_bytes(data)
    opened = Bundle.open(bundle.path)
    promised = opened.manifest.files[f"graphs/{place.name}"].sha256
    with pytest.raises(
        BundleError, match=rf"{re.escape(place.name)}: SHA-256 is [0-9a-f]{{64}}, .* {promised}"
    ):
        opened.read_engine("audio+text", "int8")
    with pytest.raises(BundleError, match=re.escape(place.name)):
        opened.verify()
    opened.read_engine("audio+text", "fp32")


def test_a_missing_file_is_named(bundle: Bundle) -> None:
    engine_file(bundle).unlink()
    with pytest.raises(BundleError, match=rf"{re.escape(engine_file(bundle).name)}: cannot be read"):
        Bundle.open(bundle.path)


def test_links_are_refused_even_with_the_right_contents(bundle: Bundle, tmp_path: Path) -> None:
    place = engine_file(bundle)
    outside = tmp_path / "outside.onnx"
    place.rename(outside)
    place.symlink_to(outside)
    with pytest.raises(BundleError, match="is a link; a bundle holds plain files"):
        Bundle.open(bundle.path)
    with pytest.raises(BundleError, match="is a link"):
        bundle.read_engine("audio+text", "int8")


def test_a_linked_folder_inside_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / "graphs").rename(tmp_path / "graphs")
    (bundle.path / "graphs").symlink_to(tmp_path / "graphs")
    with pytest.raises(BundleError, match="graphs is a link"):
        Bundle.open(bundle.path)


def test_the_bundle_itself_may_be_reached_through_a_link(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle.path)
    Bundle.open(tmp_path / "current").verify()


def test_a_name_that_leaves_the_folder_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    manifest = bundle.path / "manifest.json"
    name = bundle.manifest.engines["audio"]["fp32"]
    manifest.write_bytes(manifest.read_bytes().replace(name.encode(), b"../secret"))
    with pytest.raises(BundleError, match=r"'../secret' is refused"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("what", ["nothing", "file", "empty", "garbage"])
def test_what_is_no_bundle(tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    if what == "file":
        place.write_text("x")
    elif what != "nothing":
        place.mkdir()
    if what == "garbage":
        (place / "manifest.json").write_bytes(b"\x00\x01")
    with pytest.raises(BundleError, match=r"no folder|holds no manifest|not JSON"):
        Bundle.open(place)


def test_committing_again_keeps_the_previous_and_collects_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    first = write_bundle(folder, "first")
    second = write_bundle(folder, "second")
    assert (folder / "manifest.previous.json").read_bytes() == json_from_manifest(first.manifest)
    first.verify()
    third = write_bundle(folder, "third")
    assert not first.engine_path("audio", "fp32").exists()
    second.verify()
    third.verify()
    assert Bundle.open(folder).manifest.model_id == "third"
    on_disk = contents(folder) - {"manifest.previous.json"}
    assert on_disk == {name for bundle in (second, third) for name in bundle.manifest.files}
    assert sum(name.startswith("graphs/weights/") for name in on_disk) == 2


def test_the_same_bundle_again_changes_nothing(bundle: Bundle) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {
            str(place): (place.stat().st_mtime_ns, place.stat().st_ino)
            for place in bundle.path.rglob("*")
            if place.is_file() and place.name != ".lock"
        }

    before = state()
    write_bundle(bundle.path, "first")
    assert state() == before


def test_foreign_files_stay(bundle: Bundle) -> None:
    foreign = [bundle.path / name for name in ("graphs/notes.txt", "graphs/my.onnx", "reference.mine")]
    for place in foreign:
        place.write_text("mine")
    write_bundle(bundle.path, "second")
    write_bundle(bundle.path, "third")
    assert [place.read_text() for place in foreign] == ["mine"] * 3


def test_left_overs_of_a_killed_writer_are_collected(bundle: Bundle) -> None:
    names = (
        "graphs/audio.fp32.0123456789ab.onnx",
        "graphs/weights/int8.0123456789ab.bin",
        "reference.0123456789ab.safetensors",
        "recipe.0123456789ab.toml",
    )
    left = [bundle.path / f"{name}{ending}" for name in names for ending in ("", ".tmp")]
    for place in left:
        place.write_text("half")
    write_bundle(bundle.path, "second")
    assert not [place for place in left if place.exists()]


def test_a_planted_link_is_not_written_through(bundle: Bundle, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (bundle.path / "manifest.json.tmp").symlink_to(victim)
    write_bundle(bundle.path, "second")
    assert victim.read_text() == "untouched"


def test_a_damaged_file_is_written_anew(bundle: Bundle) -> None:
    engine_file(bundle).write_bytes(b"damaged")
    write_bundle(bundle.path, "first")
    Bundle.open(bundle.path).verify()


def test_two_writers_at_once_are_refused(bundle: Bundle) -> None:
    words = rf"is being written by another process, process {os.getpid()} since \d\d:\d\d:\d\d UTC"
    with BundleWriter(bundle.path), pytest.raises(ExportError, match=words):
        write_bundle(bundle.path, "second")
    write_bundle(bundle.path, "second")


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1, "since": 5}'])
def test_what_a_dead_writer_said_about_itself_hinders_nobody(bundle: Bundle, left: str) -> None:
    holder = bundle.path / ".lock.holder"
    holder.write_text(left)
    with BundleWriter(bundle.path):
        assert f'"pid": {os.getpid()}' in holder.read_text()
        holder.write_text(left)
        with pytest.raises(ExportError, match="is being written by another process"):
            write_bundle(bundle.path, "second")
    assert not holder.exists()
    write_bundle(bundle.path, "second")


def test_leaving_without_a_commit_changes_nothing(bundle: Bundle) -> None:
    with BundleWriter(bundle.path) as writer:
        writer.add_graph("audio.fp32", b"never committed")
    again = Bundle.open(bundle.path)
    again.verify()
    assert again.manifest == bundle.manifest
    assert contents(bundle.path) == set(bundle.manifest.files)
    with pytest.raises(ExportError, match="only inside its `with` block"):
        writer.add_graph("audio.fp32", b"too late")


def test_leaving_without_a_commit_keeps_what_was_repaired(bundle: Bundle) -> None:
    """A damaged file that a writer put right belongs to the bundle, whoever wrote it."""
    good = engine_file(bundle).read_bytes()
    engine_file(bundle).write_bytes(b"damaged")
    with BundleWriter(bundle.path) as writer:
        writer.add_graph("audio+text.int8", good)
    bundle.verify()


def test_rolling_back_and_forth(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(folder, "first")
    with BundleWriter(folder) as writer, pytest.raises(ExportError, match="no previous state to go back to"):
        writer.rollback()
    write_bundle(folder, "second")
    for expected in ("first", "second", "first"):
        with BundleWriter(folder) as writer:
            assert writer.rollback().manifest.model_id == expected
        Bundle.open(folder).verify()
    write_bundle(folder, "third")
    with BundleWriter(folder) as writer:
        assert writer.rollback().manifest.model_id == "first"


def test_no_rollback_to_a_state_that_is_not_whole(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    first = write_bundle(folder, "first")
    second = write_bundle(folder, "second")
    weights = folder / first.manifest.weights[first.manifest.engines["audio"]["int8"]][0]
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with BundleWriter(folder) as writer, pytest.raises(ExportError, match=r"not whole .*SHA-256 is"):
        writer.rollback()
    assert Bundle.open(folder).manifest == second.manifest


@pytest.mark.parametrize("killed_at", [1, 2, 3, 4])
def test_a_rollback_that_dies_leaves_one_state_or_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    folder = tmp_path / "bundle"
    write_bundle(folder, "first")
    write_bundle(folder, "second")
    synced = 0

    def fsync(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        if synced == killed_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt), BundleWriter(folder) as writer:
        writer.rollback()
    monkeypatch.undo()
    bundle = Bundle.open(folder)
    bundle.verify()
    assert bundle.manifest.model_id == ("second" if killed_at == 1 else "first")


def test_a_file_of_another_bundle_keeps_its_name(bundle: Bundle, tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "copy") as writer:
        for name in bundle.manifest.files:
            assert writer.add_file(name, bundle.read_file(name)) == bundle.manifest.files[name]
        copied = writer.commit(bundle.manifest)
        for name in (engine_file(bundle).name, "graphs/../x", "manifest.json", "graphs/audio.fp32.onnx"):
            with pytest.raises(ExportError, match="is no name of a bundle's file with these contents"):
                writer.add_file(name, engine_file(bundle).read_bytes())
        with pytest.raises(ExportError, match="is no name of a bundle's file with these contents"):
            writer.add_file(f"graphs/{engine_file(bundle).name}", b"other contents")
    assert copied.manifest == bundle.manifest
    copied.verify()


@pytest.mark.parametrize("name", ["graphs", "graphs/weights"])
def test_nothing_is_written_through_a_linked_folder(bundle: Bundle, tmp_path: Path, name: str) -> None:
    (bundle.path / name).rename(tmp_path / "elsewhere")
    (bundle.path / name).symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    with pytest.raises(ExportError, match="is a link; a bundle holds plain files and folders only"):
        write_bundle(bundle.path, "second")
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before
    assert json_from_manifest(bundle.manifest) == (bundle.path / "manifest.json").read_bytes()


def test_a_manifest_whose_files_are_not_there_is_refused(bundle: Bundle) -> None:
    files = {name: dataclasses.replace(entry, bytes=9) for name, entry in bundle.manifest.files.items()}
    with BundleWriter(bundle.path) as writer, pytest.raises(ExportError, match="nothing was changed"):
        writer.commit(dataclasses.replace(bundle.manifest, files=files))
    Bundle.open(bundle.path).verify()


@pytest.mark.parametrize("at", [1, 2, 9, 16, 17, 18, 20, 22, 23, 24])
def test_a_full_disk_leaves_the_old_bundle(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The disk refuses from the sync number ``at`` on: two for each of 12 files."""
    synced = 0
    really = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        if synced >= at:
            raise OSError(errno.ENOSPC, "No space left on device")
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ExportError, match="no room left on the disk"):
        write_bundle(bundle.path, "second")
    monkeypatch.undo()
    again = Bundle.open(bundle.path)
    again.verify()
    assert again.manifest.model_id in ("first", "second")
    assert not list(bundle.path.rglob("*.tmp"))
    if again.manifest.model_id == "first":  # what was written for the second takes no room
        assert contents(bundle.path) <= {"manifest.previous.json", *again.manifest.files}


@pytest.mark.parametrize("at", [1, 2, 9, 16, 17, 18, 20, 22])
@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_nothing_where_there_was_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, there: bool
) -> None:
    out = tmp_path / "bundle"
    if there:
        (out / "graphs").mkdir(parents=True)
        (out / "graphs" / "notes.txt").write_text("not ours")
    before = sorted(tmp_path.rglob("*"))
    synced = 0

    def fsync(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        if synced >= at:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ExportError, match="no room left on the disk"):
        write_bundle(out)
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.undo()
    write_bundle(out).verify()


def test_an_aborted_export_leaves_nothing_where_there_was_no_bundle(tmp_path: Path) -> None:
    def abort() -> None:
        with BundleWriter(tmp_path / "bundle") as writer:
            writer.add_graph("audio.fp32", b"a graph")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        abort()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_permission(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(target))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ExportError, match=r"Permission denied\. No bundle there was damaged"):
        write_bundle(bundle.path, "second")
    monkeypatch.undo()
    assert Bundle.open(bundle.path).manifest == bundle.manifest


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_text("a file")
    with pytest.raises(ExportError, match="cannot be written"):
        write_bundle(tmp_path / "bundle")
