"""Which recordings are meant by files, folders, patterns and buckets."""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeemo.batch.bucket import list_bucket, path_from_file_address
from edgeemo.batch.recordings import SUFFIXES, Recording, printable
from edgeemo.errors import InputError

_MAGIC = frozenset("*?[")


def find_recordings(inputs: Sequence[str], *, patterns: Sequence[str] = ()) -> list[Recording]:
    """Returns the recordings that are meant, each once, in the order of their paths.

    Folders and buckets are searched to their depths, without hidden files. A file that is named is taken
    whatever it is called. What cannot be listed or looked at inside them is a recording with a fault.

    Args:
        inputs: paths of files and folders, patterns such as ``"clips/*.wav"`` (``**`` for any depth), and
            addresses: ``s3://``, ``gs://``, ``file://``.
        patterns: which names are taken inside folders and buckets, such as ``"*.wav"``; none for those
            that end in one of `SUFFIXES`.

    Raises:
        InputError: an input that is not there or cannot be listed, or nothing was found in any of them.
        MissingDependencyError: an address without pyarrow.
    """
    if not inputs:
        raise InputError("nothing to score: name recordings, folders or buckets")
    found: dict[str, Recording] = {}
    for text in inputs:
        for recording in _found_by(text, patterns):
            if recording.is_remote:
                found[recording.path] = recording
                continue
            file = os.path.realpath(recording.place)
            same = found.setdefault(file, recording)
            if (recording.place != file, recording.path) < (same.place != file, same.path):
                found[file] = recording  # the file itself rather than a link to it
    if not found:
        looked = ", ".join(patterns) if patterns else "names such as *.mp4, *.wav, *.mkv"
        raise InputError(
            f"no recordings in {', '.join(inputs)}: looked for {looked}; --pattern takes other names"
        )
    return sorted(found.values(), key=lambda recording: recording.path)


def _found_by(text: str, patterns: Sequence[str]) -> Iterator[Recording]:
    if text.startswith("file://"):
        text = path_from_file_address(text)
    if "://" in text:
        yield from list_bucket(text, wanted=lambda name: _is_wanted(name, patterns))
    elif os.path.lexists(text):
        yield from _found_at(text, patterns)
    elif _MAGIC & set(text):
        for match in sorted(glob.glob(text, recursive=True)):
            if os.path.isdir(match):
                if not text.endswith("**"):  # which matches every file inside by itself
                    yield from _found_at(match, patterns)
            elif not text.endswith("**") or _is_wanted(os.path.basename(match), patterns):
                yield _recording(match)
    else:
        raise InputError(f"{text} is not there; expected a recording, a folder, a pattern or a bucket")


def _found_at(text: str, patterns: Sequence[str]) -> Iterator[Recording]:
    if not os.path.isdir(text):
        yield _recording(text)
        return
    try:
        with os.scandir(text):
            pass
    except OSError as reason:
        raise InputError(f"{text} cannot be listed: {_why(reason)}") from None
    faults: list[OSError] = []
    for folder, folders, files in os.walk(text, onerror=faults.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if _is_wanted(name, patterns):
                yield _recording(os.path.join(folder, name))
    for fault in faults:
        place = os.path.abspath(str(fault.filename))
        why = f"the folder cannot be listed: {_why(fault)}"
        yield Recording(printable(place), place, fault=why)


def _is_wanted(name: str, patterns: Sequence[str]) -> bool:
    if name.startswith("."):
        return False
    if patterns:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _recording(text: str) -> Recording:
    place = os.path.abspath(text)
    try:
        found = os.stat(place)
    except OSError as reason:
        return Recording(printable(place), place, fault=f"it cannot be read: {_why(reason)}")
    version = f"{found.st_size}@{found.st_mtime_ns}"
    try:
        words = Path(place).with_suffix(".srt").stat()
        version += f"+{words.st_size}@{words.st_mtime_ns}"
    except OSError:
        pass  # most have none
    return Recording(printable(place), place, version, found.st_size)


def _why(reason: OSError) -> str:
    known = {errno.EACCES: "permission denied", errno.ENOENT: "there is no such file"}
    return known.get(reason.errno or 0) or reason.strerror or str(reason)
