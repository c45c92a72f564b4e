"""`edgeemo completion`: asked of a real bash, as its Tab key asks."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeemo.cli.main import COMMANDS, main

pytest.importorskip("shtab", reason="needs shtab")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "edgeemo", "completion", "bash"], capture_output=True, text=True, check=True
    )
    place = tmp_path_factory.mktemp("completion") / "edgeemo.bash"
    place.write_text(done.stdout)
    return place


def completed(script: Path, folder: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words behind ``edgeemo``."""
    if (bash := shutil.which("bash")) is None:
        pytest.skip("needs bash")
    line = " ".join(map(shlex.quote, ("edgeemo", *words)))
    program = (
        f"source {shlex.quote(str(script))}\n"
        f"COMP_WORDS=({line}); COMP_CWORD={len(words)}\n"
        "_shtab_edgeemo\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", program], capture_output=True, text=True, cwd=folder, timeout=30, check=True
    )
    return sorted(done.stdout.split())


def test_commands_and_options_are_completed(script: Path, tmp_path: Path) -> None:
    assert completed(script, tmp_path, "") == sorted(COMMANDS)
    assert completed(script, tmp_path, "ro") == ["rollback"]
    assert completed(script, tmp_path, "run", "--med") == ["--media"]
    assert {"--bundle", "--camera", "--record"} <= set(completed(script, tmp_path, "run", "--"))
    assert completed(script, tmp_path, "run", "--pace", "") == ["fast", "real"]
    assert completed(script, tmp_path, "cache", "cl") == ["clear"]


def test_paths_are_completed_as_files_or_folders(script: Path, tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").touch()
    (tmp_path / "talks").mkdir()
    assert completed(script, tmp_path, "run", "--media", "ta") == ["talk.mp4", "talks"]
    assert completed(script, tmp_path, "run", "--bundle", "ta") == ["talks"]
    assert completed(script, tmp_path, "inspect", "ta") == ["talks"]
    assert completed(script, tmp_path, "records", "ta") == ["talk.mp4", "talks"]
    assert completed(script, tmp_path, "run", "--seconds", "ta") == []


def test_every_value_that_names_a_place_is_completed_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    said = capsys.readouterr().out
    for place in (
        "export_pos_0",
        "export___out",
        "update___base",
        "merge_pos_0",
        "inspect___diff",
        "train___data",
    ):
        assert f"_shtab_edgeemo_{place}_COMPGEN=" in said, place


@pytest.mark.parametrize(
    ("shell", "sign"),
    [("zsh", "#compdef edgeemo"), ("tcsh", "complete edgeemo"), ("fish", "complete -c edgeemo")],
)
def test_other_shells_get_a_script_too(shell: str, sign: str, capsys: pytest.CaptureFixture[str]) -> None:
    import shtab

    if shell not in shtab.SUPPORTED_SHELLS:
        assert main(["completion", shell]) == 1
        assert "pip install --upgrade shtab" in capsys.readouterr().err
        return
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert sign in said
    assert "rollback" in said


def test_without_shtab_the_command_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "Install it with: pip install 'edgeemo[live]'" in capsys.readouterr().err
