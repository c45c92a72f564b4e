"""``edgeemo``: one command, one file for each of its verbs."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edgeemo import __version__
from edgeemo.cli.exit_codes import FAILED, INTERRUPTED, TERMINATED, USAGE
from edgeemo.errors import EdgeEmoError, SubsetError

COMMANDS = (
    "demo",
    "run",
    "records",
    "devices",
    "doctor",
    "export",
    "update",
    "rollback",
    "merge",
    "inspect",
    "eval",
    "bench",
    "build",
    "cache",
    "train",
)
"""In the order of ``--help``; each is a module in `edgeemo.cli.commands`, which says what it needs."""


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: sensors closed, files whole."""


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Lets SIGTERM end what runs inside as Ctrl-C does, where this thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="edgeemo",
        description="Emotion recognition on the device that keeps working when sensors fail.",
        epilog="Exit codes: 0 fine, 1 failed, 2 usage.",
    )
    parser.add_argument("--version", action="version", version=f"edgeemo {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say why each choice was made")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"edgeemo.cli.commands.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        argv: words after ``edgeemo``; None takes those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a sign shows "?"
            stream.reconfigure(errors="replace")
    try:
        with _sigterm_as_interrupt():
            return _run(build_parser().parse_args(argv))
    except KeyboardInterrupt as end:
        return TERMINATED if isinstance(end, _Terminated) else INTERRUPTED


def _run(args: argparse.Namespace) -> int:
    """Runs the command that was parsed; what goes wrong is a sentence and an exit code."""
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s", stream=sys.stderr
    )
    command = importlib.import_module(f"edgeemo.cli.commands.{args.command}")
    try:
        return int(command.run(args))
    except EdgeEmoError as error:
        print(f"edgeemo {args.command}: {error}", file=sys.stderr)
        return USAGE if isinstance(error, SubsetError) else FAILED
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not complain about it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"edgeemo {args.command}: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
