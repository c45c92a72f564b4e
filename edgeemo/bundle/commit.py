"""Writing a bundle so that a kill or a power cut leaves the old one or the new one, never a broken one.

Files carry their hash in the name and are never changed. They are written first, each through a
temporary file; ``manifest.json`` comes last and is the only commit point; what neither it nor the
previous manifest refers to is collected afterwards. All of it happens under a lock.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

from edgeemo.bundle.disk import TEMPORARY, explained, write_file
from edgeemo.bundle.fields import MAX_JSON_BYTES
from edgeemo.bundle.hold import delete_unheld
from edgeemo.bundle.lock import LOCK, FolderLock
from edgeemo.bundle.manifest import FileEntry, Manifest
from edgeemo.bundle.manifest_files import WEIGHTS_FOLDER
from edgeemo.bundle.manifest_json import json_from_manifest, manifest_from_json
from edgeemo.bundle.store import MANIFEST, PREVIOUS, REPORT, Bundle, check_size
from edgeemo.errors import BundleError, ExportError, FormatVersionError

GRAPHS = "graphs"
HASH_DIGITS = 12
_HASH = rf"\.([0-9a-f]{{{HASH_DIGITS}}})\."
_OURS = re.compile(
    rf"{GRAPHS}/[^/]+{_HASH}onnx|{WEIGHTS_FOLDER}/[^/]+{_HASH}bin|reference{_HASH}safetensors|recipe{_HASH}toml"
)


def weights_location(variant: str, data: bytes) -> str:
    """Returns how a graph spells the weights file of these contents (ONNX's ``location``)."""
    return f"{WEIGHTS_FOLDER.name}/{variant}.{hashlib.sha256(data).hexdigest()[:HASH_DIGITS]}.bin"


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
        self._lock = FolderLock(self.folder)
        self._written: list[Path] = []
        self._made: list[Path] = []

    def __enter__(self) -> BundleWriter:
        """Takes the lock.

        Raises:
            ExportError: another process writes to this folder, or the folder cannot be written.
            MissingDependencyError: filelock is not installed.
        """
        with self._explained():
            graphs = self.folder / GRAPHS
            self._made = [place for place in (graphs, self.folder) if not place.exists()]
            self._written = [] if (self.folder / LOCK).exists() else [self.folder / LOCK]
            graphs.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(self._wait_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock.held:
            self._take_back()
            self._lock.release()
            if not (self.folder / MANIFEST).exists():
                self._remove_folders()

    def __repr__(self) -> str:
        return f"<BundleWriter at {str(self.folder)!r}, {'locked' if self._lock.held else 'not locked'}>"

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
            data: the serialized model; where it points to weights files, these are added by `add_weights`.

        Raises:
            ExportError: no room, or no permission; no bundle is damaged.
        """
        return self._add(f"{GRAPHS}/{stem}", ".onnx", data)

    def add_weights(self, variant: str, data: bytes) -> tuple[str, FileEntry]:
        """Writes tensors that several graphs share as ``graphs/weights/<variant>.<hash>.bin``.

        The graphs spell it as `weights_location` says.

        Raises:
            ExportError: no room, or no permission; no bundle is damaged.
        """
        return self._add(f"{WEIGHTS_FOLDER}/{variant}", ".bin", data)

    def add_reference(self, data: bytes) -> tuple[str, FileEntry]:
        """Writes ``reference.<hash>.safetensors`` and returns its name and entry.

        Raises:
            ExportError: no room, or no permission; no bundle is damaged.
        """
        return self._add("reference", ".safetensors", data)

    def add_recipe(self, data: bytes) -> tuple[str, FileEntry]:
        """Writes the choices that the engines were made by as ``recipe.<hash>.toml``.

        Raises:
            ExportError: no room, or no permission; no bundle is damaged.
        """
        return self._add("recipe", ".toml", data)

    def add_file(self, name: str, data: bytes) -> FileEntry:
        """Writes a file under the name that it has in another bundle.

        Raises:
            ExportError: ``name`` is none that a bundle's file can have or bears another hash than ``data``;
                no room, or no permission.
        """
        digest = hashlib.sha256(data).hexdigest()
        ours = _OURS.fullmatch(name)
        if ours is None or digest[:HASH_DIGITS] not in ours.groups():
            raise ExportError(f"{name!r} is no name of a bundle's file with these contents ({digest})")
        self._put(name, data)
        return FileEntry(bytes=len(data), sha256=digest)

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
            try:
                check_size(self.folder, name, entry.bytes)
            except BundleError as reason:
                raise ExportError(
                    f"{self.folder / name} is not what the new manifest promises ({reason}); "
                    "nothing was changed"
                ) from None
        current = self.folder / MANIFEST
        with self._explained():
            old = current.read_bytes() if current.is_file() else None
            if old is not None and old != data and _is_readable(old):
                write_file(self.folder / PREVIOUS, old)
            if old != data:
                write_file(current, data)
        bundle = Bundle.open(self.folder)
        self._collect()
        return bundle

    def rollback(self) -> Bundle:
        """Makes the previous manifest the bundle again, atomically, and returns it opened.

        The one that was current becomes the previous one, so that rolling back twice changes nothing.

        Raises:
            ExportError: there is no previous state, it is not whole any more, or the disk refuses; the
                bundle is as it was.
        """
        self._require_lock()
        try:
            with (self.folder / PREVIOUS).open("rb") as file:
                data = file.read(MAX_JSON_BYTES + 1)
            manifest = manifest_from_json(data, PREVIOUS)
            Bundle(self.folder, manifest, hashlib.sha256(data).hexdigest()).verify()
        except FileNotFoundError:
            raise ExportError(f"{self.folder} has no previous state to go back to") from None
        except (OSError, BundleError, FormatVersionError) as reason:
            raise ExportError(
                f"the previous state of {self.folder} is not whole ({reason}); the bundle stays as it is"
            ) from None
        current = self.folder / MANIFEST
        with self._explained():
            old = current.read_bytes() if current.is_file() else None
            if old == data:
                raise ExportError(f"{self.folder} has no previous state to go back to")
            # The commit point first: a kill in between leaves the state that was asked for.
            write_file(current, data)
            if old is not None and _is_readable(old):
                write_file(self.folder / PREVIOUS, old)
        return Bundle.open(self.folder)

    def write_report(self, data: bytes) -> None:
        """Replaces ``report.json``, which lies outside the hashes.

        Raises:
            ExportError: no room, or no permission.
        """
        self._require_lock()
        with self._explained():
            write_file(self.folder / REPORT, data)

    def _add(self, prefix: str, suffix: str, data: bytes) -> tuple[str, FileEntry]:
        digest = hashlib.sha256(data).hexdigest()
        name = f"{prefix}.{digest[:HASH_DIGITS]}{suffix}"
        self._put(name, data)
        return name, FileEntry(bytes=len(data), sha256=digest)

    def _put(self, name: str, data: bytes) -> None:
        self._require_lock()
        place = self.folder / name
        with self._explained():
            for folder in (self.folder / GRAPHS, self.folder / WEIGHTS_FOLDER):
                if folder.is_symlink():
                    raise ExportError(f"{folder} is a link; a bundle holds plain files and folders only")
            if not place.parent.exists():
                self._made.insert(0, place.parent)
                place.parent.mkdir()
            if place.is_symlink() or not place.is_file() or place.read_bytes() != data:
                self._written.append(place)
                write_file(place, data)

    def _collect(self) -> None:
        """Deletes what neither the manifest nor the previous one refers to; failing to is harmless."""
        keep = self._referenced()
        if keep is None:
            return
        for pattern in (f"{GRAPHS}/*", f"{WEIGHTS_FOLDER}/*", "reference.*", "recipe.*"):
            for place in self.folder.glob(pattern):
                name = place.relative_to(self.folder).as_posix()
                if name not in keep and _OURS.fullmatch(name.removesuffix(TEMPORARY)) and not place.is_dir():
                    with suppress(OSError):
                        delete_unheld(place)

    def _referenced(self) -> set[str] | None:
        """Returns the files of both manifests; None where one of them cannot be read."""
        names: set[str] = set()
        for manifest in (MANIFEST, PREVIOUS):
            try:
                names |= set(manifest_from_json((self.folder / manifest).read_bytes(), manifest).files)
            except FileNotFoundError:
                continue
            except (OSError, BundleError, FormatVersionError):
                return None
        return names

    def _take_back(self) -> None:
        """Deletes what this writer wrote and no manifest refers to; failing to is harmless.

        Where there is no bundle, the lock goes last and while it is held: who waits for it sees that its
        file is gone and makes anew.
        """
        keep = self._referenced()
        if keep is None:
            return
        is_bundle = (self.folder / MANIFEST).exists()
        for place in reversed(self._written):
            wanted = place.relative_to(self.folder).as_posix() in keep
            if not wanted and not (is_bundle and place.name == LOCK):
                with suppress(OSError):
                    place.unlink(missing_ok=True)
        self._written.clear()

    def _remove_folders(self) -> None:
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.folder, "No bundle there was damaged")

    def _require_lock(self) -> None:
        if not self._lock.held:
            raise ExportError("a BundleWriter changes its folder only inside its `with` block")


def _is_readable(manifest: bytes) -> bool:
    try:
        manifest_from_json(manifest)
    except (BundleError, FormatVersionError):
        return False
    return True
