"""Writing a file or a folder so that a reader, a full disk or a power cut sees the old or the new, whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeemo.errors import ExportError

TEMPORARY = ".tmp"


def write_file(place: Path, data: bytes) -> None:
    """Puts ``data`` at ``place`` by way of a temporary file beside it, which never stays.

    Raises:
        OSError: the disk refuses; what was at ``place`` still is.
    """
    with replaced_file(place) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replaced_file(place: Path, *, private: bool = False) -> Iterator[Path]:
    """Gives a new empty file beside ``place`` to fill, which takes its place at the end, on the disk.

    Args:
        place: what was there stays until then, and where anything fails.
        private: whether its owner alone may read it.

    Raises:
        OSError: the disk refuses.
    """
    temporary = place.with_name(f"{place.name}{TEMPORARY}")
    try:
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666))
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(place.parent)


def replace_folder(fresh: Path, place: Path) -> None:
    """Puts a finished folder in the place of another; what was there goes only once the new one is in.

    That takes two renames. Where a run is killed between them, the next one puts back what was there.

    Raises:
        OSError: the disk refuses; what was there is there again.
    """
    aside = place.with_name(f".{place.name}.replaced")
    if aside.exists() and not place.exists():
        os.replace(aside, place)
    shutil.rmtree(aside, ignore_errors=True)
    if place.exists():
        os.replace(place, aside)
    try:
        os.replace(fresh, place)
    except OSError:
        if aside.exists():
            os.replace(aside, place)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Makes the names in ``folder`` durable; Windows cannot and need not open a folder for that."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(place: Path, comfort: str) -> Iterator[None]:
    """Turns what a disk says into one sentence.

    Args:
        place: what is being written.
        comfort: what is still in order, said behind the cause.

    Raises:
        ExportError: in the place of an OSError.
    """
    try:
        yield
    except OSError as reason:
        full = reason.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        cause = "no room left on the disk" if full else (reason.strerror or str(reason))
        raise ExportError(f"{place} cannot be written: {cause}. {comfort}") from None
