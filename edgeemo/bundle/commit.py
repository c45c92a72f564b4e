"""Writing a bundle so that a kill or a power cut leaves the old one or the new one, never a broken one.

Files carry their hash in the name and are never changed. They are written first, each through a
temporary file; ``manifest.json`` comes last and is the only commit point; what neither it nor the
previous manifest refers to is collected afterwards. All of it happens under a lock.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edgeemo.bundle.hold import delete_unheld
from edgeemo.bundle.manifest import FileEntry, Manifest
from edgeemo.bundle.manifest_json import json_from_manifest, manifest_from_json
from edgeemo.bundle.store import MANIFEST, PREVIOUS, REPORT, Bundle
from edgeemo.errors import BundleError, ExportError, FormatVersionError, MissingDependencyError

if TYPE_CHECKING:
    from filelock import BaseFileLock

GRAPHS = "graphs"
HASH_DIGITS = 12
LOCK = ".lock"
_TEMPORARY = ".tmp"
_OURS = re.compile(rf".+\.[0-9a-f]{{{HASH_DIGITS}}}\.(onnx|safetensors)(\{_TEMPORARY})?")


class BundleWriter:
    """The right to change one bundle folder, from ``with`` to the end of its block.

    Add files, then `commit` a manifest that refers to them. Leaving the block without a commit leaves
    the bundle as it was, and a folder that held none as if nobody had written there.

    Args:
        folder: where the bundle lies or shall lie; made if need be.
        wait_s: how long to wait for another writer before giving up.
    """

    def __init__(self, folder: str | Path, *, wait_s: float = 0.0) -> None:
        self.folder = Path(folder)
        self._wait_s = wait_s
        self._lock: BaseFileLock | None = None
        self._written: list[Path] = []
        self._made: list[Path] = []

    def __enter__(self) -> BundleWriter:
        """Takes the lock.

        Raises:
            ExportError: another process writes to this folder, or the folder cannot be written.
            MissingDependencyError: filelock is not installed.
        """
        try:
            from filelock import FileLock, Timeout
        except ImportError:
            raise MissingDependencyError(
                "writing a bundle", "filelock", "pip install 'edgeemo[export]'"
            ) from None
        with _explained(self.folder):
            graphs = self.folder / GRAPHS
            self._made = [place for place in (graphs, self.folder) if not place.exists()]
            self._written = [] if (self.folder / LOCK).exists() else [self.folder / LOCK]
            graphs.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / LOCK)
            try:
                lock.acquire(timeout=self._wait_s)
            except Timeout:
                raise ExportError(
                    f"{self.folder} is being written by another process (it holds {self.folder / LOCK}); "
                    "wait for it to finish or choose another folder"
                ) from None
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            if not (self.folder / MANIFEST).exists():
                self._take_back()
            self._lock.release()
            self._lock = None

    def __repr__(self) -> str:
        return f"<BundleWriter at {str(self.folder)!r}, {'locked' if self._lock else 'not locked'}>"

    def existing(self) -> Bundle | None:
        """Returns the bundle that lies here now, or None where there is none.

        Raises:
            BundleError: there is one, and it is broken.
            FormatVersionError: there is one of a format that this version does not know.
        """
        return Bundle.open(self.folder) if (self.folder / MANIFEST).exists() else None

    def add_graph(self, stem: str, data: bytes) -> tuple[str, FileEntry]:
        """Writes an ONNX model as ``graphs/<stem>.<hash>.onnx`` and returns its name and entry.

        Args:
            stem: such as ``"audio+video.int8"`` or ``"stem.audio.fp32"``.
            data: the serialized model.

        Raises:
            ExportError: no room, or no permission; no bundle is damaged.
        """
        return self._add(f"{GRAPHS}/{stem}", ".onnx", data)

    def add_reference(self, data: bytes) -> tuple[str, FileEntry]:
        """Writes ``reference.<hash>.safetensors`` and returns its name and entry.

        Raises:
            ExportError: no room, or no permission; no bundle is damaged.
        """
        return self._add("reference", ".safetensors", data)

    def commit(self, manifest: Manifest) -> Bundle:
        """Makes ``manifest`` the bundle, atomically, and returns it opened.

        The manifest that was there is kept as ``manifest.previous.json`` with all its files.

        Raises:
            ExportError: a file of the manifest is not there, or the disk refuses; no bundle is damaged.
        """
        self._require_lock()
        data = json_from_manifest(manifest)
        manifest_from_json(data)
        for name, entry in manifest.files.items():
            place = self.folder / name
            if not place.is_file() or place.stat().st_size != entry.bytes:
                raise ExportError(f"{place} is not what the new manifest promises; nothing was changed")
        current = self.folder / MANIFEST
        with _explained(self.folder):
            old = current.read_bytes() if current.is_file() else None
            if old is not None and old != data and _is_readable(old):
                _write_file(self.folder / PREVIOUS, old)
            if old != data:
                _write_file(current, data)
        bundle = Bundle.open(self.folder)
        self._collect(bundle.manifest)
        return bundle

    def write_report(self, data: bytes) -> None:
        """Replaces ``report.json``, which lies outside the hashes.

        Raises:
            ExportError: no room, or no permission.
        """
        self._require_lock()
        with _explained(self.folder):
            _write_file(self.folder / REPORT, data)

    def _add(self, prefix: str, suffix: str, data: bytes) -> tuple[str, FileEntry]:
        self._require_lock()
        digest = hashlib.sha256(data).hexdigest()
        name = f"{prefix}.{digest[:HASH_DIGITS]}{suffix}"
        place = self.folder / name
        with _explained(self.folder):
            if place.is_symlink() or not place.is_file() or place.read_bytes() != data:
                self._written.append(place)
                _write_file(place, data)
        return name, FileEntry(bytes=len(data), sha256=digest)

    def _collect(self, manifest: Manifest) -> None:
        """Deletes what neither this manifest nor the previous one refers to; failing to is harmless."""
        keep = set(manifest.files)
        try:
            keep |= set(manifest_from_json((self.folder / PREVIOUS).read_bytes(), PREVIOUS).files)
        except FileNotFoundError:
            pass
        except (OSError, BundleError, FormatVersionError):
            return
        for place in (*self.folder.glob(f"{GRAPHS}/*"), *self.folder.glob("reference.*")):
            name = place.relative_to(self.folder).as_posix()
            if name not in keep and _OURS.fullmatch(place.name) and not place.is_dir():
                with suppress(OSError):
                    delete_unheld(place)

    def _take_back(self) -> None:
        """Deletes what this writer wrote where no bundle came of it; failing to is harmless.

        The lock goes last and while it is held: who waits for it sees that its file is gone and makes anew.
        """
        for place in reversed(self._written):
            with suppress(OSError):
                place.unlink(missing_ok=True)
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()

    def _require_lock(self) -> None:
        if self._lock is None:
            raise ExportError("a BundleWriter changes its folder only inside its `with` block")


def _is_readable(manifest: bytes) -> bool:
    try:
        manifest_from_json(manifest)
    except (BundleError, FormatVersionError):
        return False
    return True


def _write_file(place: Path, data: bytes) -> None:
    """Puts ``data`` at ``place`` so that a reader, or a power cut, sees all of it or nothing."""
    temporary = place.with_name(f"{place.name}{_TEMPORARY}")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(place.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the names in ``folder`` durable; Windows cannot and need not open a folder for that."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turns what a disk says into one sentence."""
    try:
        yield
    except OSError as reason:
        full = reason.errno in (errno.ENOSPC, errno.EDQUOT)
        cause = "no room left on the disk" if full else (reason.strerror or str(reason))
        raise ExportError(f"{folder} cannot be written: {cause}. No bundle there was damaged") from None
