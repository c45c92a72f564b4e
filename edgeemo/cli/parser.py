"""The parser of a command: help like a manual page, and errors that name what was probably meant."""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, cast

from edgeemo.cli.exit_codes import CLOSED_PIPE, FAILED, INTERRUPTED, TERMINATED, USAGE

EXIT_CODES = {
    0: "it worked",
    FAILED: "it failed; the message says why and what to do",
    USAGE: "the words after the command cannot be used",
    INTERRUPTED: "Ctrl-C ended it",
    CLOSED_PIPE: "the program that read the output went away, as `| head` does",
    TERMINATED: "SIGTERM ended it",
}
"""What every command's exit codes say; a command may say more of its own."""

_WIDEST = 110


class CommandParser(argparse.ArgumentParser):
    """A parser whose help has one-sentence summary, description, groups of options, examples and exit codes.

    Args:
        about: paragraphs below the summary, separated by empty lines.
        examples: (command line without ``edgeemo``, what it does), each of which must parse.
        exit_codes: code -> meaning, where it is another one than in `EXIT_CODES`.
        words: what `argparse.ArgumentParser` takes.
    """

    def __init__(
        self,
        *,
        about: str = "",
        examples: Sequence[tuple[str, str]] = (),
        exit_codes: Mapping[int, str] | None = None,
        **words: Any,
    ) -> None:
        words.setdefault("formatter_class", _ManualFormatter)
        super().__init__(**words)
        self.about, self.examples = about, tuple(examples)
        self.exit_codes = {**EXIT_CODES, **(exit_codes or {})}
        self.summary = ""

    def add_commands(self, summaries: Mapping[str, str]) -> CommandsAction:
        """Returns what commands are added to.

        Args:
            summaries: command -> summary.
        """
        commands = cast(
            CommandsAction,
            self.add_subparsers(
                dest="command", metavar="COMMAND", required=True, title="commands", action=CommandsAction
            ),
        )
        commands.summaries = summaries
        return commands

    def format_usage(self) -> str:
        """Returns the first line of the help: what must be given, and that there are options."""
        self.usage = self.usage or self._short_usage()
        return super().format_usage()

    def format_help(self) -> str:
        """Returns the help as a manual page."""
        self.usage = self.usage or self._short_usage()
        self.description = "\n\n".join(filter(None, (_sentence(self.summary), self.about))) or None
        self.epilog = "\n\n".join(filter(None, (self._examples(), self._exit_codes())))
        return super().format_help()

    def parse_known_args(  # type: ignore[override]  # argparse's overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses, and refuses what is left over here, where the options are known that may be meant."""
        parsed, left = super().parse_known_args(args, namespace)
        if left:
            self.error(self._unknown(left))
        return parsed, left

    def error(self, message: str) -> NoReturn:
        """Prints what is wrong and where the help is, and exits with 2."""
        self.exit(USAGE, f"{self.format_usage()}{self.prog}: {message}\nSee: {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse would be silent about a reader that has gone

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        meant = did_you_mean(str(value), choices)
        if isinstance(action, CommandsAction):
            there = ", ".join(choices)
            raise argparse.ArgumentError(None, f"there is no command {value!r}{meant}\nThere are: {there}")
        raise argparse.ArgumentError(action, f"{value!r} is not one of {', '.join(choices)}{meant}")

    def _unknown(self, left: Sequence[str]) -> str:
        option = next((word for word in left if word.startswith("-")), None)
        if option is None:
            return f"takes no {' '.join(left)!r}"
        known = [name for action in self._actions for name in action.option_strings]
        name = option.partition("=")[0]
        return f"there is no option {name}{did_you_mean(name, known)}"

    def _short_usage(self) -> str:
        words = ["%(prog)s"]
        if any(action.option_strings and not action.required for action in self._actions):
            words.append("[OPTIONS]")
        for action in self._actions:
            if action.required and action.option_strings:
                words.append(f"{action.option_strings[-1]} {_value_name(action)}")
        words += [_positional(action) for action in self._actions if not action.option_strings]
        return " ".join(words).replace("%(prog)s [OPTIONS] COMMAND", "%(prog)s [OPTIONS] COMMAND ...")

    def _examples(self) -> str:
        lines = [f"  # {what}\n  edgeemo {words}" for words, what in self.examples]
        return "examples:\n" + "\n\n".join(lines) if lines else ""

    def _exit_codes(self) -> str:
        return "exit codes:\n" + "\n".join(f"  {code:<4} {what}" for code, what in self.exit_codes.items())


if TYPE_CHECKING:
    _SubParsersAction = argparse._SubParsersAction[CommandParser]
else:
    _SubParsersAction = argparse._SubParsersAction


class CommandsAction(_SubParsersAction):
    """The commands, each with the summary that stands in the list of all.

    Attributes:
        summaries: command -> summary; to be set before commands are added.
    """

    summaries: Mapping[str, str] = {}

    def add_parser(self, name: str, **words: Any) -> CommandParser:
        """Adds a command and returns its parser, which takes what `CommandParser` takes."""
        parser = super().add_parser(name, **{**words, "help": self.summaries[name]})
        parser.summary = self.summaries[name]
        return parser


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean X?"`` for the nearest known word, empty where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


class _ManualFormatter(argparse.HelpFormatter):
    """Keeps paragraphs apart and indented lines as they are; as wide as the terminal, but not too wide."""

    def __init__(self, prog: str, **words: Any) -> None:
        words.setdefault("width", min(shutil.get_terminal_size().columns - 2, _WIDEST))
        super().__init__(prog, max_help_position=28, **words)

    def _format_action(self, action: argparse.Action) -> str:
        if isinstance(action, CommandsAction):  # the title above says what these are
            return "".join(map(self._format_action, action._get_subactions()))
        return super()._format_action(action)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs: list[str] = []
        for paragraph in text.split("\n\n"):
            lines = paragraph.split("\n")
            kept = any(line.startswith("  ") for line in lines)
            paragraphs.append(paragraph if kept else super()._fill_text(paragraph, width, indent))
        return "\n\n".join(paragraphs)


def _sentence(summary: str) -> str:
    return f"{summary[:1].upper()}{summary[1:].rstrip('.')}." if summary else ""


def _positional(action: argparse.Action) -> str:
    name = _value_name(action)
    if action.nargs in ("?", argparse.OPTIONAL):
        return f"[{name}]"
    return f"{name}..." if action.nargs in ("+", argparse.ONE_OR_MORE) else name


def _value_name(action: argparse.Action) -> str:
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar is None and action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.metavar or action.dest.upper()
