"""Readings on their way to a file: ``--record`` of ``edgeemo run``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from edgeemo.errors import RecordError
from edgeemo.records import SUFFIXES, Recorder, open_recorder
from edgeemo.records.header import header_from_manifest
from edgeemo.session import Reading, Session

_MANY = 10_000  # readings from which on finishing a file takes seconds


def add_record_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--record --append``."""
    group = parser.add_argument_group("recording")
    group.add_argument(
        "--record",
        metavar="FILE",
        help=f"keep the readings, never sound or pictures, in a file that ends in {', '.join(SUFFIXES)}",
    )
    group.add_argument("--append", action="store_true", help="go on with a .jsonl record that exists")


@contextmanager
def recorder_for(args: argparse.Namespace, session: Session) -> Iterator[Recorder | None]:
    """Gives the recorder that `add_record_options` parsed, None without ``--record``; says what it kept.

    Raises:
        InputError, RecordError, MissingDependencyError: the file cannot be kept.
    """
    if args.record is None:
        yield None
        return
    started = None if args.media else round((time.time() - session.now_s) * 1000)
    header = header_from_manifest(session.manifest, hop_s=session.hop_s, started_at_ms=started)
    recorder = open_recorder(args.record, header, append=args.append)
    try:
        yield recorder
    finally:  # Ctrl-C is how most sessions end
        session.close()  # no camera stays on while a file is finished
        if recorder.written >= _MANY and recorder.path.suffix != ".jsonl":
            print(f"edgeemo run: making {recorder.path} ...", file=sys.stderr)
        recorder.close()
        lost = f", {recorder.lost} could not be kept" if recorder.lost else ""
        print(f"edgeemo run: {recorder.written} readings in {recorder.path}{lost}", file=sys.stderr)


def recorded(readings: Iterable[Reading], recorder: Recorder | None) -> Iterator[Reading]:
    """Passes readings on and keeps them; a disk that refuses is said, and that it takes them again."""
    trouble = False
    for reading in readings:
        if recorder is not None:
            try:
                recorder.write(reading)
            except RecordError as error:
                if not trouble:
                    print(f"edgeemo run: {error}; readings go on", file=sys.stderr)
                trouble = True
            else:
                if trouble:
                    print(f"edgeemo run: {recorder.path} is written again", file=sys.stderr)
                trouble = False
        yield reading
