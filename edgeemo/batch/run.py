"""A whole run: what is missing is scored and kept, and the table is made of everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeemo.batch.merge import read_table_of_contents, write_table
from edgeemo.batch.parts import Parts
from edgeemo.batch.plan import Plan
from edgeemo.batch.recordings import Recording
from edgeemo.batch.score import Scorer
from edgeemo.batch.table import Scored, failed
from edgeemo.errors import InputError, RecordError
from edgeemo.records import RecordHeader
from edgeemo.records.table import check_parquet

Pool = Callable[[Sequence[Recording]], Iterator[Scored]]
"""Scores recordings and yields what came of each, in any order."""
_MOST_ERRORS = 1000  # that a summary lists; the table has all of them


@dataclass
class Summary:
    """What a run did.

    Attributes:
        table: the file.
        recordings: how many are in the table.
        scored: how many of them this run scored.
        kept: how many were scored by earlier runs.
        readings: how many this run made.
        failed: recordings of this run without a reading.
        damaged: recordings of this run with readings and an error, such as files that break off.
        media_s: seconds of recordings that this run scored.
        took_s: seconds that it took.
        errors: path and error of the first thousand of them.
    """

    table: str
    recordings: int = 0
    scored: int = 0
    kept: int = 0
    readings: int = 0
    failed: int = 0
    damaged: int = 0
    media_s: float = 0.0
    took_s: float = 0.0
    errors: list[tuple[str, str]] = field(default_factory=list)

    @property
    def nothing_worked(self) -> bool:
        """Whether there is no recording with readings, of this run or an earlier one."""
        return self.scored > 0 and self.failed == self.scored and self.kept == 0

    def add(self, scored: Scored) -> None:
        """Counts what came of one recording."""
        self.scored += 1
        self.readings += scored.readings
        self.media_s += scored.duration_s
        if scored.error:
            self.failed += not scored.readings
            self.damaged += bool(scored.readings)
            if len(self.errors) < _MOST_ERRORS:
                self.errors.append((scored.path, scored.error))

    def to_json(self) -> dict[str, Any]:
        """Returns the summary as plain data for ``json.dumps``; numbers rounded to 3 digits."""
        return {
            "table": self.table,
            "recordings": self.recordings,
            "scored": self.scored,
            "kept": self.kept,
            "readings": self.readings,
            "failed": self.failed,
            "damaged": self.damaged,
            "media_s": round(self.media_s, 3),
            "took_s": round(self.took_s, 3),
            "times_real_time": round(self.media_s / self.took_s, 3) if self.took_s else 0.0,
            "errors": [{"path": path, "error": error} for path, error in self.errors],
        }


def in_turn(plan: Plan) -> Pool:
    """Returns a pool that scores in this process, one recording after the other, without Ray."""

    def pool(recordings: Sequence[Recording]) -> Iterator[Scored]:
        scorer = Scorer(plan)
        for recording in recordings:
            yield scorer.score(recording)

    return pool


def _answers(recordings: Sequence[Recording], pool: Pool, header: RecordHeader) -> Iterator[Scored]:
    """Yields what came of each recording; no pool is opened for those that are known to be out of reach."""
    for recording in recordings:
        if recording.fault:
            yield failed(header, recording.path, None, recording.fault)
    if reachable := [recording for recording in recordings if not recording.fault]:
        yield from pool(reachable)


def score_archive(
    recordings: Sequence[Recording],
    table: str | Path,
    *,
    plan: Plan,
    pool: Pool | None = None,
    overwrite: bool = False,
    begun: Callable[[int, int], Callable[[Scored], None]] = lambda missing, kept: lambda scored: None,
) -> Summary:
    """Scores what a table does not have yet and makes the table of everything.

    Each recording is kept the moment it is scored, in a folder beside the table; a run that ends early,
    however it ends, loses what it was working on and no more. A recording counts as scored while its size
    and time of change are what they were. What a table has beyond the recordings that are named stays, and
    so does what it has of a recording that cannot be reached any more.

    Args:
        recordings: as `find_recordings` gives them.
        table: ends in ``.parquet``; made, or gone on with.
        plan: how recordings are scored.
        pool: what scores them; None for this process.
        overwrite: score everything anew; the table that was there is replaced at the end.
        begun: called once with how many recordings are to be scored and how many are kept; gives what is
            called with each that was scored.

    Raises:
        InputError: the table has another suffix.
        RecordError: another run makes this table, the table or what was kept was made with another plan, or
            the disk refuses; what was scored is kept.
        BundleError, FormatVersionError: the bundle changed since it was planned with.
        MissingDependencyError: pyarrow is not installed.
    """
    table = Path(table)
    if table.suffix != ".parquet":
        raise InputError(f"{table} does not end in .parquet, the one kind of table there is")
    check_parquet()
    start_s = time.monotonic()
    header, identity = plan.header(plan.open_bundle()), plan.identity()
    summary = Summary(str(table))
    with Parts(table) as parts:
        scored = parts.begin(identity, overwrite=overwrite)
        old: dict[str, str | None] = {}
        if table.exists() and not parts.ignores_table:
            old = read_table_of_contents(table, identity)
        have = old | {path: one.version for path, one in scored.items()}
        missing = [one for one in recordings if one.version is None or have.get(one.path) != one.version]
        again = {one.path for one in missing}
        summary.kept = sum(path not in again for path in have)
        tell = begun(len(missing), summary.kept)
        for one in _answers(missing, pool or in_turn(plan), header):
            again.discard(one.path)
            if one.version is not None or have.get(one.path) is None:
                scored[one.path] = parts.keep(one)
            summary.add(one)  # out of reach now, scored before: that stays
            tell(one)
        if again:
            raise RecordError(f"nobody scored {min(again)}; run the same command again")
        sources = dict.fromkeys(old, table) | {path: parts.place(path) for path in scored}
        summary.recordings = len(sources)
        if scored or not table.exists():
            comfort = f"What was scored is kept in {parts.folder}; the same command goes on from it"
            write_table(table, header=header, identity=identity, sources=sources, comfort=comfort)
        parts.remove()
    summary.took_s = time.monotonic() - start_s
    return summary
