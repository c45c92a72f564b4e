"""``edgeemo completion``: what a shell needs to complete commands, options, files and folders."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from edgeemo.errors import InputError, MissingDependencyError

SHELLS = ("bash", "zsh", "tcsh", "fish")
FOLDERS = frozenset(
    {"DIR", "BUNDLE", "CHECKPOINT", "DATASET", "ADAPTER_DIR", "BUNDLE|CHECKPOINT", ("A", "B")}
)
"""Names of values that are folders."""
FILES = frozenset({"FILE", "RECORD", "MODEL.onnx", "OUT.onnx", "INPUT"})
"""Names of values that are files."""


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "completion",
        about="Prints a script for your shell. Where to put it:\n\n"
        "  bash  edgeemo completion bash > ~/.local/share/bash-completion/completions/edgeemo\n"
        "  zsh   edgeemo completion zsh > ~/.zfunc/_edgeemo   (with ~/.zfunc in fpath before compinit)\n"
        "  tcsh  edgeemo completion tcsh > ~/.edgeemo.csh, and `source ~/.edgeemo.csh` in ~/.cshrc\n"
        "  fish  edgeemo completion fish > ~/.config/fish/completions/edgeemo.fish",
        examples=(("completion bash", 'for this bash alone: eval "$(edgeemo completion bash)"'),),
    )
    parser.add_argument("shell", choices=SHELLS, help="for which shell")


def run(args: argparse.Namespace) -> int:
    """Prints the script."""
    try:
        import shtab
    except ModuleNotFoundError:
        raise MissingDependencyError("shell completion", "shtab", "pip install 'edgeemo[live]'") from None
    if args.shell not in shtab.SUPPORTED_SHELLS:
        raise InputError(
            f"shtab {shtab.__version__}, which is installed, knows {', '.join(shtab.SUPPORTED_SHELLS)} "
            f"and not {args.shell}; update it: pip install --upgrade shtab"
        )
    from edgeemo.cli.main import build_parser

    parser = build_parser()
    _mark_paths(parser, folder=shtab.DIRECTORY, file=shtab.FILE)
    print(shtab.complete(parser, args.shell))
    return 0


def _mark_paths(
    parser: argparse.ArgumentParser, *, folder: Mapping[str, object], file: Mapping[str, object]
) -> None:
    """Says of every value that is a file or folder that it is one, by the name that the help gives it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark_paths(command, folder=folder, file=file)
        elif action.metavar in FOLDERS:
            action.complete = folder  # type: ignore[attr-defined]  # where shtab looks
        elif action.metavar in FILES:
            action.complete = file  # type: ignore[attr-defined]  # where shtab looks
