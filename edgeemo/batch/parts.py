"""What was scored so far: one file a recording, there the moment it is scored, whole after every kill."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgeemo.batch.plan import difference
from edgeemo.batch.table import Scored, said_by
from edgeemo.bundle.disk import TEMPORARY, write_file
from edgeemo.bundle.lock import LOCK, FolderLock
from edgeemo.errors import ExportError, RecordError
from edgeemo.records.recorder import refusal

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger(__name__)

FOLDER = ".parts"
_RUN = "run.json"
_FORMAT = 1


class Parts:
    """The folder beside a table that holds what was scored and is not in the table yet.

    It belongs to one run at a time, from ``with`` to the end of its block.

    Args:
        table: the table; the folder bears its name with `FOLDER` behind.

    Raises:
        RecordError: another run has it, or it cannot be written.
    """

    def __init__(self, table: Path) -> None:
        self.table = table
        self.folder = table.with_name(table.name + FOLDER)
        self._lock = FolderLock(self.folder)
        self._scored: dict[str, Scored] = {}
        self._begun = False
        self.ignores_table = False

    def __enter__(self) -> Self:
        try:
            for _ in range(3):
                self.folder.mkdir(mode=0o700, exist_ok=True)
                self._lock.acquire(0.0)
                if (self.folder / LOCK).exists():
                    break
                self._lock.release()  # a run that ended this moment has taken the folder away
        except ExportError as reason:
            raise RecordError(f"one run at a time makes a table: {reason}") from None
        except OSError as reason:
            raise refusal(self.folder, reason) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._begun and not self._scored:
            self.remove()  # nothing to go on from
        self._lock.release()

    def begin(self, identity: Mapping[str, Any], *, overwrite: bool) -> dict[str, Scored]:
        """Returns what was scored before with the same plan; afterwards `keep` may be called.

        Args:
            identity: `Plan.identity`.
            overwrite: forget what is there, also the table once the new one is complete.

        Raises:
            RecordError: what is there was scored with another plan, or the folder cannot be written.
        """
        before = None if overwrite else self._run()
        if before is not None and not any(self.folder.glob("*.parquet")):
            before = None  # a run that ended before anything was scored binds nobody
        if before is not None and (differs := difference(before["identity"], identity)):
            raise RecordError(
                f"{self.folder} holds readings that were made another way ({differs}); go on as before, give "
                "another name, or score everything anew with --overwrite"
            )
        try:
            if before is None:
                self._clear()
                said = {"format": _FORMAT, "identity": dict(identity), "ignores_table": overwrite}
                write_file(self.folder / _RUN, json.dumps(said).encode("ascii"))
            else:
                for place in self.folder.glob(f"*{TEMPORARY}"):
                    place.unlink()
        except OSError as reason:
            raise refusal(self.folder, reason) from None
        self.ignores_table = overwrite if before is None else bool(before["ignores_table"])
        self._scored = {} if before is None else self._read()
        self._begun = True
        return dict(self._scored)

    def place(self, path: str) -> Path:
        """Returns where the part of a recording lies, or would lie."""
        return self.folder / f"{hashlib.sha256(path.encode()).hexdigest()[:32]}.parquet"

    def keep(self, scored: Scored) -> Scored:
        """Keeps what came of one recording, whole and on the disk when this returns it without its part.

        Raises:
            RecordError: the disk refuses; what was kept before still is.
        """
        try:
            write_file(self.place(scored.path), scored.part)
        except OSError as reason:
            comfort = (
                f"What was scored before, {len(self._scored)} recordings, is kept there; the same command "
                "goes on from it"
            )
            raise refusal(self.folder, reason, comfort) from None
        self._scored[scored.path] = kept = Scored(**scored.to_json())
        return kept

    def remove(self) -> None:
        """Takes the folder away once the table has everything; failing to is harmless."""
        with suppress(OSError):
            (self.folder / _RUN).unlink(missing_ok=True)  # first: without it no part counts
        shutil.rmtree(self.folder, ignore_errors=True)
        self._begun = False

    def _run(self) -> dict[str, Any] | None:
        try:
            run: dict[str, Any] = json.loads((self.folder / _RUN).read_bytes())
            known = run["format"] == _FORMAT
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not known:
            raise RecordError(
                f"{self.folder} is of format {run['format']!r}; this edgeemo knows {_FORMAT}; update it, or "
                "score everything anew with --overwrite"
            )
        return run

    def _read(self) -> dict[str, Scored]:
        import pyarrow as pa
        from pyarrow import parquet

        found: dict[str, Scored] = {}
        for place in self.folder.glob("*.parquet"):
            try:
                scored = Scored(**said_by(parquet.read_metadata(place).metadata, where=str(place)))
            except (OSError, pa.ArrowException, RecordError, TypeError) as reason:
                log.warning("%s cannot be read and is scored again: %s", place, reason)
                continue
            if place == self.place(scored.path):
                found[scored.path] = scored
        return found

    def _clear(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.folder / _RUN)
        for place in (*self.folder.glob("*.parquet"), *self.folder.glob(f"*{TEMPORARY}")):
            place.unlink()
