"""The report on a machine: true, private, with something to do for each trouble."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from edgeemo.cli.main import main
from edgeemo.doctor.jetson import Jetson, find_jetson
from edgeemo.doctor.libraries import conflicts, installed_versions
from edgeemo.doctor.places import examine_places
from edgeemo.doctor.report import Severity, without_private
from edgeemo.doctor.trial import run_trial, try_backend
from edgeemo.runtimes.open import BACKENDS
from edgeemo.shipped import DEFAULT_BUNDLE

ORIN = "NVIDIA Jetson Orin Nano Developer Kit\0"
RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
DPKG = """Package: nvidia-l4t-core
Version: 36.4.3-20250107174145

Package: nvidia-jetpack
Status: install ok installed
Architecture: arm64
Version: 6.2+b77

Package: zlib1g
Version: 1.2.11
"""


def jetson_root(root: Path, *, model: str = ORIN, release: str = RELEASE, dpkg: str = DPKG) -> Path:
    for place, text in {
        "proc/device-tree/model": model,
        "etc/nv_tegra_release": release,
        "var/lib/dpkg/status": dpkg,
        "var/lib/nvpmodel/status": "pmode:0002 fmode:fanNull\n",
    }.items():
        if text:
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_text(text)
    return root


def test_a_jetson_is_known_by_its_files(tmp_path: Path) -> None:
    found = find_jetson(jetson_root(tmp_path))
    assert found == Jetson("NVIDIA Jetson Orin Nano Developer Kit", "36.4.3", "6.2", "2")


def test_a_jetson_without_the_package_has_the_jetpack_of_its_l4t(tmp_path: Path) -> None:
    found = find_jetson(jetson_root(tmp_path, dpkg="Package: zlib1g\nVersion: 1\n"))
    assert found is not None
    assert found.jetpack == "6"


def test_another_board_is_no_jetson(tmp_path: Path) -> None:
    assert find_jetson(jetson_root(tmp_path, model="Raspberry Pi 5\0", release="")) is None
    assert find_jetson(tmp_path / "nothing") is None


def versions(*wheels: str) -> dict[str, str]:
    def version_of(wheel: str) -> str:
        if wheel not in wheels:
            raise metadata.PackageNotFoundError(wheel)
        return "1.0"

    return installed_versions(version_of)


def test_wheels_that_overwrite_each_other_are_found() -> None:
    both = conflicts(versions("onnxruntime", "onnxruntime-gpu"))
    assert [finding.severity for finding in both] == [Severity.PROBLEM]
    assert "overwrite" in both[0].what
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in both[0].do
    pictures = conflicts(versions("onnxruntime", "opencv-python", "opencv-python-headless"))
    assert "opencv-python and opencv-python-headless" in pictures[0].what
    assert conflicts(versions("onnxruntime", "opencv-python-headless")) == []
    assert "edgeemo[cpu]" in conflicts(versions("opencv-python"))[0].do


def test_nothing_private_is_told() -> None:
    home = Path("/home/anna")
    assert without_private("cannot open /home/anna/plans", home=home) == "cannot open ~/plans"
    assert without_private("/home/bert/x and C:\\Users\\bert\\x", home=home) == (
        "/home/USER/x and C:\\Users\\USER\\x"
    )


def test_an_engine_really_runs_on_the_cpu_and_others_give_their_reasons() -> None:
    trial = try_backend("cpu", DEFAULT_BUNDLE)
    assert trial.works
    assert trial.median_ms is not None
    assert trial.median_ms > 0
    assert trial.deviation is not None
    assert trial.deviation < 0.05
    assert "on cpu" in trial.detail


def test_a_backend_that_does_not_exist_is_a_reason_not_a_crash() -> None:
    trial = run_trial("abacus", DEFAULT_BUNDLE)
    assert not trial.works
    assert "abacus" in trial.detail


def test_a_backend_that_hangs_is_given_up() -> None:
    trial = try_backend("cpu", DEFAULT_BUNDLE, limit_s=0.01)
    assert not trial.works
    assert "hung" in trial.detail


def test_a_folder_that_cannot_be_written_is_a_problem_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("EDGEEMO_CACHE", str(blocked / "cache"))
    monkeypatch.setenv("EDGEEMO_DATA", str(tmp_path / "data"))
    facts, findings = examine_places()
    assert "not a folder" in facts["cache (timings, plans)"]
    assert [finding.severity for finding in findings] == [Severity.PROBLEM]
    assert "EDGEEMO_CACHE" in findings[0].do
    assert not (tmp_path / "data").exists()


def test_the_command_names_every_backend_and_nothing_private(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "anna"))
    monkeypatch.setenv("EDGEEMO_CACHE", str(tmp_path / "anna" / "cache"))
    assert main(["doctor", "--json"]) == 0
    text = capsys.readouterr().out
    report = json.loads(text)
    assert [trial["backend"] for trial in report["backends"]] == list(BACKENDS)
    assert all(trial["detail"] for trial in report["backends"])
    assert report["libraries"]["edgeemo"]
    assert report["libraries"]["numpy"] == metadata.version("numpy")
    assert all(finding["do"] for finding in report["findings"])
    assert "anna" not in text
    assert platform.node() not in text


def test_a_broken_bundle_is_said_and_the_exit_code_tells(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeemo.cli.main", "doctor", "--bundle", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert "problem: no engine runs on any backend here" in done.stdout
    assert "manifest.json" in done.stdout
