"""Where a bundle may be changed: where it lies, or a copy in the user's data folder.

A bundle on a read-only file system, in somebody else's folder or inside an installed package stays as it
is: an upgrade of the package would throw the change away, and its hashes belong to the package.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from pathlib import Path

from edgeemo.bundle.commit import GRAPHS, BundleWriter
from edgeemo.bundle.store import MANIFEST, REPORT, Bundle
from edgeemo.errors import ExportError

PACKAGE = Path(__file__).resolve().parent.parent
_READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def data_folder() -> Path:
    """Returns the folder for what the user wants to keep; it may not exist yet.

    ``EDGEEMO_DATA`` where it is set; else ``edgeemo`` in the system's own place for such files:
    ``XDG_DATA_HOME`` or ``~/.local/share`` on Linux, ``LOCALAPPDATA`` on Windows,
    ``~/Library/Application Support`` on macOS.

    Raises:
        ExportError: the user has no home folder.
    """
    if chosen := os.environ.get("EDGEEMO_DATA"):
        return Path(chosen)
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Application Support"
        else:
            base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    except RuntimeError:
        raise ExportError("there is no home folder to keep a bundle in; set EDGEEMO_DATA to one") from None
    return Path(base) / "edgeemo"


def may_change(folder: Path) -> bool:
    """Tells whether a bundle may be changed where it lies."""
    if folder.resolve().is_relative_to(PACKAGE):
        return False
    places = (folder, folder / GRAPHS, folder / GRAPHS / "weights")
    try:
        for place in places:
            if place.is_dir():
                with tempfile.TemporaryFile(dir=place):
                    pass
    except OSError as reason:
        return reason.errno not in _READ_ONLY  # a full disk is said where it is written to
    return True


def copy_place(bundle: Bundle) -> Path:
    """Returns where the copy of this state of a bundle lies, or would lie, in the user's data folder."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", bundle.manifest.model_id).strip(".-") or "bundle"
    return data_folder() / "bundles" / f"{name[:64]}-{bundle.manifest_sha256[:12]}"


def changeable(folder: str | Path, *, wait_s: float = 0.0) -> Path:
    """Returns the folder itself where it may be changed; otherwise that of a copy, made if need be.

    A copy that was made before, and perhaps updated since, is returned as it is.

    Args:
        folder: of the bundle.
        wait_s: how long to wait for another process that makes the copy.

    Raises:
        BundleError: no bundle there, or a broken one.
        FormatVersionError: a bundle of a format that this version does not know.
        ExportError: the copy cannot be written, or another process is writing it this moment.
    """
    bundle = Bundle.open(folder)
    if may_change(bundle.path):
        return bundle.path
    place = copy_place(bundle)
    if (place / MANIFEST).exists():
        return place
    with BundleWriter(place, wait_s=wait_s) as writer:
        if writer.existing() is None:
            for name in bundle.manifest.files:
                writer.add_file(name, bundle.read_file(name))
            writer.commit(bundle.manifest)
            if bundle.report() is not None:
                writer.write_report((bundle.path / REPORT).read_bytes())
    return place


def changed_copy(folder: str | Path) -> Path:
    """Returns where the copy lies that `changeable` made of a bundle.

    Raises:
        BundleError: no bundle there, or a broken one.
        ExportError: there is no such copy.
    """
    place = copy_place(Bundle.open(folder))
    if not (place / MANIFEST).exists():
        raise ExportError(f"{folder} may not be changed, and no copy of it was ever updated in {place}")
    return place
