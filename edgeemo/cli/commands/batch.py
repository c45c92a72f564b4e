"""``edgeemo batch``: folders and buckets of recordings scored into one table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeemo.cli.exit_codes import FAILED, UsageError
from edgeemo.cli.options.engines import add_engine_options, engine_options
from edgeemo.cli.options.output import add_json_option
from edgeemo.cli.options.session import add_settings_option
from edgeemo.errors import InputError
from edgeemo.session import Session

if TYPE_CHECKING:
    from edgeemo.batch import Plan, Recording, Summary
    from edgeemo.batch.table import Scored

_SHOWN_ERRORS = 10


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "batch",
        about="Each recording is kept the moment it is scored: the same command goes on where a run was "
        "ended, and scores what is new or changed. A recording that cannot be scored is a row with its "
        "error.",
        examples=(
            ("batch interviews/ --out readings.parquet", "a folder, to its depths"),
            ("batch 'calls/*.wav' --out calls.parquet --workers 8", "some files, with eight processes"),
            ("batch s3://archive/clips --out readings.parquet --address auto", "a bucket, on a Ray cluster"),
        ),
        exit_codes={FAILED: "it failed and says why, or not one recording could be scored"},
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="a recording, folder, pattern such as 'clips/*.wav', or address: s3://, gs://, file://",
    )
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="the table, such as readings.parquet; gone on with"
    )
    parser.add_argument(
        "--pattern",
        action="append",
        default=[],
        metavar="GLOB",
        help="which names are taken inside folders and buckets, such as '*.wav'; repeatable (default: the "
        "usual suffixes of sound and video)",
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes (default: as many as there are processors); 0 scores in this process, without Ray",
    )
    parser.add_argument(
        "--address", help="of a Ray cluster, such as auto or host:6379 (default: this machine)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="score everything anew, and replace the table at the end"
    )
    parser.add_argument(
        "--max-size",
        type=_gigabytes,
        default=16.0,
        metavar="GB",
        help="the most that is fetched of one recording in a bucket (default 16)",
    )
    add_settings_option(parser)
    add_engine_options(parser)
    add_json_option(parser, "batch")


def run(args: argparse.Namespace) -> int:
    """Scores what the table does not have yet, makes it, and says what came of it."""
    from edgeemo.batch import find_recordings
    from edgeemo.batch.plan import plan_from_options
    from edgeemo.batch.ray_pool import check_ray
    from edgeemo.records.table import check_parquet

    if args.workers == 0 and args.address:
        raise UsageError("--workers 0 scores in this process; leave --address away with it")
    if not args.out.endswith(".parquet"):
        raise UsageError(f"--out {args.out} does not end in .parquet, the one kind of table there is")
    engines = engine_options(args)
    try:
        recordings = find_recordings(args.inputs, patterns=args.pattern)
    except InputError as error:
        raise UsageError(str(error)) from None
    if args.workers != 0:
        check_ray()  # first: what installs Ray brings the table's package, too
    check_parquet()
    if not args.address:  # a cluster's machines may have what this one has not
        with Session(args.bundle, engines=engines, settings=dict(args.set)):
            pass  # what cannot be opened is said now; which variant is fastest here is known from now on
    plan = plan_from_options(
        args.bundle, engines=engines, settings=dict(args.set), most_bytes=round(args.max_size * 1e9)
    )
    summary = _score(args, recordings, plan)
    if args.json:
        print(json.dumps(summary.to_json(), ensure_ascii=False))
    else:
        _print_summary(summary)
    return FAILED if summary.nothing_worked else 0


def _score(args: argparse.Namespace, recordings: list[Recording], plan: Plan) -> Summary:
    from edgeemo.batch.parts import FOLDER
    from edgeemo.batch.progress import progress_of
    from edgeemo.batch.ray_pool import RayPool, quiet_terminal
    from edgeemo.batch.run import in_turn, score_archive

    table = Path(args.out)
    with ExitStack() as stack:

        def begun(missing: int, kept: int) -> Callable[[Scored], None]:
            stream = sys.stderr
            if missing:
                before = f", {kept} were scored before" if kept else ""
                print(f"edgeemo batch: {missing} recordings to score{before}", file=sys.stderr)
            if args.workers != 0 and missing and not args.verbose:
                log = table.with_name(table.name + FOLDER) / "ray.log"
                stream = stack.enter_context(quiet_terminal(log))
            return stack.enter_context(progress_of(missing, stream)).add

        pool = in_turn(plan)
        if args.workers != 0:
            pool = RayPool(plan, workers=args.workers, address=args.address)
        try:
            return score_archive(
                recordings, table, plan=plan, pool=pool, overwrite=args.overwrite, begun=begun
            )
        except KeyboardInterrupt:
            stack.close()
            print(
                f"edgeemo batch: stopped; what was scored is kept in {table}{FOLDER}, and the same command "
                "goes on from it",
                file=sys.stderr,
            )
            raise


def _print_summary(summary: Summary) -> None:
    from edgeemo.batch.progress import words_from_seconds

    for path, error in summary.errors[:_SHOWN_ERRORS]:
        print(f"edgeemo batch: {path}: {error}", file=sys.stderr)
    if len(summary.errors) > _SHOWN_ERRORS:
        more = summary.failed + summary.damaged - _SHOWN_ERRORS
        print(f"edgeemo batch: and {more} more, each a row of the table with its error", file=sys.stderr)
    if not summary.scored:
        print(f"{summary.table} is complete: {summary.recordings} recordings, nothing to score")
        return
    said = [f"{summary.readings} readings of {summary.scored} recordings"]
    if summary.failed:
        said.append(f"{summary.failed} could not be scored")
    if summary.damaged:
        said.append(f"{summary.damaged} damaged")
    said.append(
        f"{summary.media_s / 3600:.2f} h of media in {words_from_seconds(summary.took_s)}, "
        f"{summary.media_s / max(summary.took_s, 1e-3):.1f} times real time"
    )
    print("; ".join(said))
    kept = f", {summary.kept} of them from before" if summary.kept else ""
    print(f"{summary.table}: {summary.recordings} recordings{kept}")


def _workers(text: str) -> int:
    if not text.isdecimal() or int(text) > 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes; write 0, 1, 2, ...")
    return int(text)


def _gigabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of gigabytes")
    return value
