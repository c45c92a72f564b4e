"""Recordings in buckets: listed, and fetched one at a time; only this file knows pyarrow's file systems."""

from __future__ import annotations

import errno
import fnmatch
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from posixpath import basename, splitext
from typing import Any
from urllib.parse import urlsplit

from edgeemo.batch.leftovers import own_folder
from edgeemo.batch.recordings import Recording
from edgeemo.errors import InputError, MissingDependencyError

_PIECE = 4 * 1024 * 1024
_MAGIC = frozenset("*[")  # a question mark begins the options


def path_from_file_address(address: str) -> str:
    """Returns the path that a ``file://`` address means.

    Raises:
        InputError: it names another machine.
        MissingDependencyError: pyarrow is not installed.
    """
    return str(_open(address)[1])


def list_bucket(address: str, *, wanted: Callable[[str], bool]) -> Iterator[Recording]:
    """Yields the recordings in a bucket.

    Args:
        address: such as ``s3://bucket/folder``, ``gs://bucket/clip.wav`` or ``s3://bucket/2026/*/*.mp4``;
            what pyarrow takes behind a ``?``, such as ``region`` or ``endpoint_override``, is passed on.
        wanted: whether a file of this name is a recording, where the address names none.

    Raises:
        InputError: credentials in the address, or a bucket that is not there or cannot be listed.
        MissingDependencyError: pyarrow is not installed.
    """
    base, _, options = address.partition("?")
    whole = base
    while _MAGIC & set(whole):
        whole = whole.rpartition("/")[0]
    scheme = base.partition("://")[0]
    pattern = base.partition("://")[2] if whole != base else ""
    files, root = _open(f"{whole}?{options}" if options else whole)
    from pyarrow import fs

    try:
        top = files.get_file_info(root)
        if top.type == fs.FileType.NotFound:
            raise InputError(f"{whole} is not there, or these credentials do not show it")
        if top.type == fs.FileType.File:
            beside = files.get_file_info(f"{splitext(root)[0]}.srt")
            infos = [top, *([beside] if beside.type == fs.FileType.File else [])]
        else:
            infos = files.get_file_info(fs.FileSelector(root, recursive=True))
    except OSError as reason:
        raise InputError(f"{whole} cannot be listed: {_first_line(reason)}") from None
    by_path = {info.path: info for info in infos if info.type == fs.FileType.File}
    for path, info in by_path.items():
        matches = _matches(path, pattern) if pattern else wanted(basename(path))
        if info is not top and not matches:
            continue
        words = by_path.get(f"{splitext(path)[0]}.srt")
        if info is words:
            continue
        name = f"{scheme}://{path}"
        yield Recording(
            path=name,
            place=f"{name}?{options}" if options else name,
            version=_version(info) + (f"+{_version(words)}" if words else ""),
            size_bytes=info.size,
            captions=words is not None,
        )


@contextmanager
def fetched(recording: Recording, *, most_bytes: int) -> Iterator[Path]:
    """Gives a copy of a recording in a bucket, with its captions; nothing of it stays behind.

    Args:
        recording: as `list_bucket` gave it.
        most_bytes: what a copy may take; nothing is fetched of a larger one.

    Raises:
        OSError: it cannot be fetched, or is larger than that or than the room for temporary files.
    """
    name = basename(recording.path)
    folder = own_folder("fetched")
    try:
        room = min(most_bytes, shutil.disk_usage(folder).free)
        if recording.size_bytes > room:
            limit = f"at most {most_bytes / 1e9:.1f} GB are fetched (--max-size)"
            if room < most_bytes:
                limit = f"{room / 1e9:.1f} GB are free in {tempfile.gettempdir()}"
            raise OSError(errno.EFBIG, f"it has {recording.size_bytes / 1e9:.1f} GB; {limit}")
        files, path = _open(recording.place)
        _fetch(files, path, Path(folder, name), most_bytes)
        if recording.captions:
            _fetch(files, f"{splitext(path)[0]}.srt", Path(folder, name).with_suffix(".srt"), most_bytes)
        yield Path(folder, name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch(files: Any, source: str, target: Path, most_bytes: int) -> None:
    left = most_bytes
    with files.open_input_stream(source) as stream, target.open("wb") as file:
        while piece := stream.read(_PIECE):
            left -= len(piece)
            if left < 0:
                raise OSError(errno.EFBIG, f"it grew beyond the {most_bytes / 1e9:.1f} GB that are fetched")
            file.write(piece)


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern means a path: as with files, ``*`` stays in its folder and ``**`` does not."""
    if "**" in pattern:
        return fnmatch.fnmatchcase(path, pattern)
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(map(fnmatch.fnmatchcase, names, wanted))


def _open(address: str) -> tuple[Any, str]:
    """Returns the file system of an address, and its path there."""
    try:
        from pyarrow import fs
    except ImportError:
        raise MissingDependencyError(
            f"an address such as {address.partition('?')[0]}", "pyarrow", "pip install 'edgeemo[ray]'"
        ) from None
    parts = urlsplit(address)
    if parts.username or parts.password:
        raise InputError(
            f"{parts.scheme}://...@{parts.hostname or ''} has credentials in it, which every program on this "
            "machine can see; give them by the environment or a file, as the bucket's own tools take them"
        )
    try:
        files, path = fs.FileSystem.from_uri(address)
    except (OSError, ValueError) as reason:  # pyarrow's own errors are among these
        raise InputError(f"{address.partition('?')[0]} cannot be opened: {_first_line(reason)}") from None
    return files, path


def _version(info: Any) -> str:
    return f"{info.size}@{info.mtime_ns}"


def _first_line(reason: Exception) -> str:
    return (str(reason).splitlines() or [type(reason).__name__])[0].rstrip(". ")
