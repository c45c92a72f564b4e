"""Opening a bundle: nothing is handed out before its size and SHA-256 are those of the manifest."""

from __future__ import annotations

import hashlib
import stat
import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeemo.bundle.fields import MAX_JSON_BYTES, parse_json
from edgeemo.bundle.graph_file import WEIGHTS, GraphFile
from edgeemo.bundle.manifest import Manifest
from edgeemo.bundle.manifest_json import check_file_name, manifest_from_json
from edgeemo.bundle.tensors import Array, tensors_from_bytes
from edgeemo.errors import BundleError, InputError, SubsetError
from edgeemo.modality import parse_subset

MANIFEST = "manifest.json"
PREVIOUS = "manifest.previous.json"
REPORT = "report.json"


class Bundle:
    """A folder of engines and stems with its manifest.

    Made by `Bundle.open`. Reading verifies: what is returned has the size and hash that the manifest
    promises. Files inside the folder may not be links; the folder itself may be reached through one.

    Attributes:
        path: the folder.
        manifest: what it says about itself.
        manifest_sha256: SHA-256 of ``manifest.json``, the identity of this state of the bundle.
    """

    def __init__(self, path: Path, manifest: Manifest, manifest_sha256: str) -> None:
        self.path = path
        self.manifest = manifest
        self.manifest_sha256 = manifest_sha256
        # What several open engines point to is read and kept in memory once, as long as one of them lives.
        self._weights: weakref.WeakValueDictionary[str, Array] = weakref.WeakValueDictionary()

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Returns the bundle in the folder ``path``; engines are read and hashed when asked for.

        Raises:
            BundleError: no bundle there, a broken manifest, or a file that is missing, a link or of
                another size than promised.
            FormatVersionError: a bundle of a format that this version does not know.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise BundleError(f"{folder} is no folder; expected a bundle made by `edgeemo export`")
        if not (folder / MANIFEST).exists():
            raise BundleError(f"{folder} holds no {MANIFEST}; expected a bundle made by `edgeemo export`")
        data = _read(folder, MANIFEST, limit=MAX_JSON_BYTES)
        manifest = manifest_from_json(data, str(folder / MANIFEST))
        for name, entry in manifest.files.items():
            check_size(folder, name, entry.bytes)
        return cls(folder, manifest, hashlib.sha256(data).hexdigest())

    def __repr__(self) -> str:
        manifest = self.manifest
        size = sum(entry.bytes for entry in manifest.files.values()) / 1e6
        variants = ", ".join(sorted({v for group in manifest.engines.values() for v in group}))
        return (
            f"<Bundle {manifest.model_id!r} ({manifest.family}) at {str(self.path)!r}: "
            f"{len(manifest.engines)} engines over {', '.join(manifest.order)} in {variants}; "
            f"{len(manifest.labels)} labels every {manifest.hop_s:g} s; {size:.1f} MB; "
            f"weights {manifest.licence.weights}>"
        )

    def variants(self, subset: str) -> tuple[str, ...]:
        """Returns the variants of one subset's engine.

        Raises:
            SubsetError: no engine for ``subset`` here; the message lists those there are.
        """
        return tuple(self.manifest.engines[self._subset(subset)])

    def engine_path(self, subset: str, variant: str) -> Path:
        """Returns where an engine lies; its contents are checked by `read_engine` only.

        Raises:
            SubsetError: no engine for ``subset`` here.
            InputError: the engine has no such variant.
        """
        return self.path / self._engine(subset, variant)

    def read_engine(self, subset: str, variant: str) -> GraphFile:
        """Returns the ONNX model of one engine and the tensors that it shares, verified.

        Raises:
            SubsetError: no engine for ``subset`` here.
            InputError: the engine has no such variant.
            BundleError: as `read_graph`.
        """
        return self.read_graph(self._engine(subset, variant))

    def stem_path(self, modality: str, variant: str) -> Path:
        """Returns where a stem lies; its contents are checked by `read_stem` only.

        Raises:
            SubsetError: no such modality here.
            InputError: the stem has no such variant.
        """
        return self.path / self._stem(modality, variant)

    def read_stem(self, modality: str, variant: str) -> GraphFile:
        """Returns the ONNX model of one modality's stem, verified.

        Raises:
            SubsetError: no such modality here.
            InputError: the stem has no such variant.
            BundleError: as `read_graph`.
        """
        return self.read_graph(self._stem(modality, variant))

    def read_graph(self, name: str) -> GraphFile:
        """Returns a graph that the manifest lists, with everything that it points to.

        Raises:
            BundleError: a file is missing, truncated, tampered with or a link, or the graph points
                anywhere but to the weights files that the manifest names for it.
        """
        model = self.read_file(name)
        weights = {
            f"{WEIGHTS}/{file.rpartition('/')[2]}": self._read_weights(file)
            for file in self.manifest.weights.get(name, ())
        }
        return GraphFile(str(self.path / name), model, weights)

    def _read_weights(self, name: str) -> Array:
        found = self._weights.get(name)
        if found is None:
            self._weights[name] = found = np.frombuffer(self.read_file(name), np.uint8)
        return found

    def read_file(self, name: str) -> bytes:
        """Returns the contents of a file that the manifest lists, verified.

        Raises:
            BundleError: not listed, missing, truncated, tampered with or a link.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{name!r} is not listed in {self.path / MANIFEST}")
        data = _read(self.path, name, limit=entry.bytes)
        _compare_sizes(self.path / name, len(data), entry.bytes)
        found = hashlib.sha256(data).hexdigest()
        if found != entry.sha256:
            raise BundleError(
                f"{self.path / name}: SHA-256 is {found}, the manifest promises {entry.sha256}; "
                "the file was changed. Export or install the bundle again"
            )
        return data

    def verify(self) -> None:
        """Reads and checks every file that the manifest lists.

        Raises:
            BundleError: the first file that is not what the manifest promises.
        """
        for name in self.manifest.files:
            self.read_file(name)

    def reference(self) -> dict[str, Array]:
        """Returns the windows with known answers.

        Keys: ``features.<m>`` (N, T_m, D_m) and ``mask.<m>`` (N, T_m) fp16, ``logits.<subset>`` (N, C)
        and ``evidence.<subset>.<m>`` (N, C) fp32, ``stem.<m>.input`` and ``stem.<m>.output``.

        Raises:
            BundleError: this bundle has none, or the file is not what the manifest promises.
        """
        name = self.manifest.reference
        if name is None:
            raise BundleError(f"{self.path} holds no reference windows")
        return tensors_from_bytes(self.read_file(name), str(self.path / name))

    def recipe(self) -> bytes | None:
        """Returns the choices that the engines were made by (TOML text), or None where there are none.

        Raises:
            BundleError: the file is not what the manifest promises.
        """
        return None if self.manifest.recipe is None else self.read_file(self.manifest.recipe)

    def report(self) -> dict[str, object] | None:
        """Returns what the exporter measured, or None where no report belongs to this state.

        The report lies outside the hashes: it informs, nothing may rely on it.
        """
        try:
            data = _read(self.path, REPORT, limit=MAX_JSON_BYTES)
            report = parse_json(data, str(self.path / REPORT), BundleError)
        except BundleError:
            return None
        return report if report.get("manifest_sha256") == self.manifest_sha256 else None

    def _subset(self, subset: str) -> str:
        key = parse_subset(subset, self.manifest.order)
        if key not in self.manifest.engines:
            raise SubsetError(f"no engine for {key!r} in {self.path}; there are: {self._listed()}")
        return key

    def _listed(self) -> str:
        return ", ".join(self.manifest.engines)

    def _engine(self, subset: str, variant: str) -> str:
        key = self._subset(subset)
        return _choose(self.manifest.engines[key], variant, f"the engine for {key!r}")

    def _stem(self, modality: str, variant: str) -> str:
        self.manifest.modality(modality)
        return _choose(self.manifest.stems[modality], variant, f"the stem of {modality!r}")


def _choose(files: Mapping[str, str], variant: str, what: str) -> str:
    if variant not in files:
        raise InputError(f"{what} has no variant {variant!r}; it has: {', '.join(files)}")
    return files[variant]


def check_size(folder: Path, name: str, expected: int) -> None:
    """Raises BundleError unless ``name`` is a plain file of this size, reached through no link."""
    _compare_sizes(folder / name, _plain_file_size(folder, name), expected)


def _compare_sizes(path: Path, found: int, expected: int) -> None:
    if found != expected:
        raise BundleError(
            f"{path}: {found} bytes, the manifest promises {expected}; the file is truncated or was "
            "changed. Export or install the bundle again"
        )


def _plain_file_size(folder: Path, name: str) -> int:
    """Returns the size of a file that is reached without following a link below ``folder``."""
    check_file_name(name, str(folder / MANIFEST), BundleError)
    place = folder
    parts = name.split("/")
    for position, part in enumerate(parts):
        place = place / part
        try:
            status = place.lstat()
        except OSError as reason:
            raise BundleError(f"{place}: cannot be read ({reason.strerror or reason})") from None
        wanted = stat.S_ISREG if position == len(parts) - 1 else stat.S_ISDIR
        if not wanted(status.st_mode):
            kind = "a link" if stat.S_ISLNK(status.st_mode) else "no plain file or folder"
            raise BundleError(f"{place} is {kind}; a bundle holds plain files and folders only")
    return status.st_size


def _read(folder: Path, name: str, *, limit: int) -> bytes:
    """Returns at most ``limit + 1`` bytes of a plain file of the bundle."""
    _plain_file_size(folder, name)
    try:
        with (folder / name).open("rb") as file:
            return file.read(limit + 1)
    except OSError as reason:
        raise BundleError(f"{folder / name}: cannot be read ({reason.strerror or reason})") from None
