"""Help, examples, usage errors and exit codes of every command."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from edgeemo.cli.main import COMMANDS, build_parser, main
from edgeemo.cli.parser import CommandParser
from edgeemo.schemas import schema_names
from edgeemo.shipped import RECORDING


def parser_of(command: str) -> CommandParser:
    for action in build_parser(command)._actions:
        if isinstance(action, argparse._SubParsersAction):
            parser = action.choices[command]
            assert isinstance(parser, CommandParser)
            return parser
    raise AssertionError("no commands")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_a_manual_page(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    summary = COMMANDS[command]
    assert f"{summary[0].upper()}{summary[1:]}." in " ".join(said.split())
    assert parser_of(command).about, "a command needs a description"
    assert "\nexamples:\n  # " in said
    assert "\nexit codes:\n  0 " in said
    assert max(map(len, said.splitlines())) <= 130


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_of_the_command_and_can_be_parsed(command: str) -> None:
    examples = parser_of(command).examples
    assert examples
    for words, what in examples:
        args = build_parser(command).parse_args(shlex.split(words))
        assert args.command == command
        assert what[-1] != "."


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is_for(command: str) -> None:
    for action in parser_of(command)._actions:
        assert action.help, f"{command} {action.option_strings or action.dest} has no help"


def test_what_programs_read_names_a_schema_that_is_there() -> None:
    for command in COMMANDS:
        for action in parser_of(command)._actions:
            if "--json" in action.option_strings:
                assert action.help is not None
                named = action.help.partition("schema")[2].lstrip("s: ").rstrip(")")
                assert set(named.split(", ")) <= set(schema_names()), f"{command}: {action.help}"


def test_help_of_all_loads_no_command() -> None:
    code = (
        "import sys; from edgeemo.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'rich', 'matplotlib', 'fastapi', 'ray', 'paho', 'edgeemo.session'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command, summary in COMMANDS.items():
        assert f"  {command} " in done.stdout
        assert summary in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demmo"], "there is no command 'demmo'; did you mean demo?"),
        (["run", "--medai", "x.mp4"], "edgeemo run: there is no option --medai; did you mean --media?"),
        (["run", "--pace", "rael"], "'rael' is not one of fast, real; did you mean real?"),
        (["inspect", "a", "b"], "edgeemo inspect: takes no 'b'"),
        (["inspect", "--zzz"], "there is no option --zzz\n"),
        (["export", "checkpoint"], "the following arguments are required: --out"),
    ],
)
def test_what_was_probably_meant_is_said(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "--help" in said.err
    assert said.out == ""


def _no_session(*_: object, **__: object) -> None:
    pytest.fail("engines were opened")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "--variant", "int8"], "name it with --engine S"),
        (["inspect", "bundle", "--diff", "a", "b"], "--diff A B takes two bundles and nothing else"),
        (["run", "--media", str(RECORDING), "--set", "hop=1"], "there is no setting 'hop'"),
        (["run", "--media", str(RECORDING), "--set", "hop_s=x"], "hop_s must be a float"),
        (["run", "--append"], "--append goes on with a record"),
    ],
)
def test_words_that_cannot_be_used_together_are_usage_errors(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgeemo.session.Session.__init__", _no_session)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert f"See: edgeemo {words[0]} --help" in said


@pytest.mark.parametrize("words", ["schema reading", "inspect --engine audio+video+text", "--help"])
def test_a_reader_that_has_gone_is_the_end_without_a_word(words: str) -> None:
    """``true`` reads nothing and is gone before the first word comes."""
    command = f"(sleep 0.3; {sys.executable} -m edgeemo {words}; echo $? >&2) | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "141\n"


def test_a_copy_that_was_updated_is_pointed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgeemo.bundle.place import changeable
    from edgeemo.shipped import DEFAULT_BUNDLE

    monkeypatch.setenv("EDGEEMO_DATA", str(tmp_path))
    words = ["run", "--media", str(RECORDING), "--seconds", "0.5"]
    assert main(words) == 0
    assert "updated copy" not in capsys.readouterr().err
    copy = changeable(DEFAULT_BUNDLE)
    assert main(words) == 0
    assert f"to use it: --bundle {copy}" in capsys.readouterr().err
    assert main([*words, "--bundle", str(copy)]) == 0
    assert "updated copy" not in capsys.readouterr().err
