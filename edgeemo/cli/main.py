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
from edgeemo.cli.exit_codes import CLOSED_PIPE, FAILED, INTERRUPTED, TERMINATED, USAGE, UsageError
from edgeemo.cli.parser import CommandParser
from edgeemo.errors import EdgeEmoError, SubsetError

COMMANDS = {
    "demo": "replay the demo recording while sensors drop out and come back",
    "run": "readings from live sensors or from a recording",
    "serve": "a live page of readings, REST, a WebSocket and Prometheus",
    "batch": "score folders and buckets of recordings into one table",
    "records": "make one kind of record of another, or of a journal that was left behind",
    "plot": "a record of readings as one picture",
    "devices": "microphones and cameras here, and what is missing",
    "doctor": "what works on this machine, and what to do about the rest",
    "export": "turn a trained checkpoint into a bundle of engines",
    "update": "merge new adapters into an installed bundle",
    "rollback": "take the last update or export of a bundle back",
    "merge": "merge a PEFT adapter into a plain ONNX model",
    "inspect": "what a bundle or checkpoint holds",
    "eval": "accuracy on labelled data, for each subset it can serve",
    "bench": "speed, size, memory and cold start on this machine",
    "build": "build TensorRT plans ahead of time",
    "cache": "list or delete the plans and measurements kept here",
    "train": "train a model on data",
    "schema": "what the JSON documents hold, as JSON Schema",
    "completion": "a script that lets a shell complete commands, options and files",
}
"""Name -> summary in the order of ``--help``; each is a module in `edgeemo.cli.commands`, which is imported
only where it is used, and says what it needs."""


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


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Returns the parser of the whole command line.

    Args:
        only: the one command whose options are wanted, so that no other is imported; None for all.
    """
    parser = CommandParser(
        prog="edgeemo",
        about="Emotion recognition on the device that keeps working when sensors fail. "
        "`edgeemo COMMAND --help` tells what a command does, with examples.",
        examples=(
            ("demo", "see it work without a camera or microphone"),
            ("run", "readings from the microphone and camera that are here"),
            ("doctor", "find out what works on this machine"),
        ),
    )
    parser.add_argument("--version", action="version", version=f"edgeemo {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say why each choice was made")
    subparsers = parser.add_commands(COMMANDS)
    for name in COMMANDS:
        if only is None or name == only:
            importlib.import_module(f"edgeemo.cli.commands.{name}").add_parser(subparsers)
        else:
            subparsers.add_parser(name)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        argv: words after ``edgeemo``; None takes those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a sign shows "?"
            stream.reconfigure(errors="replace")
    words = sys.argv[1:] if argv is None else argv
    named = next((word for word in words if not word.startswith("-")), "")
    try:
        with _sigterm_as_interrupt():
            return _run(build_parser(named), words)
    except KeyboardInterrupt as end:
        return TERMINATED if isinstance(end, _Terminated) else INTERRUPTED


def _run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Runs the command that the words name; what goes wrong is a sentence and an exit code."""
    name = "edgeemo"
    try:
        args = _parsed(parser, words)
        name = f"edgeemo {args.command}"
        logging.basicConfig(
            level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s", stream=sys.stderr
        )
        code = int(importlib.import_module(f"edgeemo.cli.commands.{args.command}").run(args))
        sys.stdout.flush()
        return code
    except UsageError as error:
        print(f"{name}: {error}\nSee: {name} --help", file=sys.stderr)
        return USAGE
    except EdgeEmoError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return USAGE if isinstance(error, SubsetError) else FAILED
    except BrokenPipeError:
        _leave_stdout()  # whoever read our output has gone; Python must not complain about it at exit
        return CLOSED_PIPE
    except OSError as error:
        _leave_stdout()
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED


def _parsed(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Returns what was parsed; help that nobody reads to its end is as any other output."""
    try:
        return parser.parse_args(words)
    except SystemExit:
        sys.stdout.flush()
        raise


def _leave_stdout() -> None:
    """Sends what is still in the buffer nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
