"""Writing a repository in one step: the old one is there, or the new one, never a mixture."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgeemo.bundle.disk import replace_folder
from edgeemo.errors import ExportError

MARK = "edgeemo.json"
"""Says what a repository was written from, with the hash of each file; Triton looks at folders alone."""
KIND = "triton model repository"


def check_target(out: Path) -> None:
    """Refuses to write over what this command did not write.

    Raises:
        ExportError: ``out`` is a file, a folder of something else, or a repository that somebody added to or
            changed.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ExportError(f"{out} is no plain folder; name a new folder, or one that holds a repository")
    if not out.exists() or not any(out.iterdir()):
        return
    listed = _listed_files(out)
    if listed is None:
        raise ExportError(
            f"{out} is not empty and holds no repository that edgeemo wrote (no {MARK}); nothing was "
            "changed. Name a new folder"
        )
    for place in sorted(out.rglob("*")):
        name = place.relative_to(out).as_posix()
        if place.is_dir() or "__pycache__" in place.parts or name == MARK:
            continue
        if name not in listed:
            raise ExportError(
                f"{out} holds {name}, which edgeemo did not write, and the folder would be replaced; nothing "
                "was changed. Move it, or name a new folder"
            )
        if _sha256(place.read_bytes()) != listed[name]:
            raise ExportError(
                f"{out} holds {name}, which was changed since edgeemo wrote it, and the folder would be "
                "replaced; nothing was changed. Keep the change elsewhere and delete the folder, or name a "
                "new one"
            )


def write_folder(out: Path, files: Mapping[str, bytes], about: Mapping[str, object]) -> None:
    """Puts files and the mark into a new folder beside ``out``, which then takes its place.

    Args:
        out: the target; what `check_target` accepts is replaced.
        files: path -> contents.
        about: what the mark says beside the hashes.

    Raises:
        ExportError: the folder cannot be written.
    """
    check_target(out)
    hashes = {name: _sha256(data) for name, data in files.items()}
    mark = {"kind": KIND, "format_version": 1, **about, "files": hashes}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            fresh.chmod(0o755)  # what a server of another user can read; a temporary folder is its owner's
            for name, data in files.items():
                place = fresh / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
            text = json.dumps(mark, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
            (fresh / MARK).write_text(text, encoding="utf8")
            replace_folder(fresh, out)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as reason:
        raise ExportError(f"{out} cannot be written ({reason.strerror or reason})") from None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _listed_files(out: Path) -> dict[str, str] | None:
    """Returns the files that the mark lists and their hashes, or None where there is no mark of ours."""
    try:
        mark = json.loads((out / MARK).read_text(encoding="utf8"))
        return dict(mark["files"]) if mark["kind"] == KIND else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
