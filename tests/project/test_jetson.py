"""What a Jetson needs resolves, and the recipe names nothing that does not exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "samples" / "jetson"
PLATFORMS = tuple(f"manylinux{release}_aarch64" for release in ("_2_28", "_2_27", "_2_17", "2014"))
EXTRAS = ("cpu", "cuda", "mic")
SHADOWS = ("tensorrt", "opencv", "pycuda")


def requirements() -> list[str]:
    """Returns what ``edgeemo[cpu,cuda,mic]`` asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]


@pytest.mark.parametrize(("python", "constrained"), [("3.10", True), ("3.12", False)])
def test_the_runtime_resolves_for_a_jetson(python: str, constrained: bool, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--only-binary=:all:", "--python-version", python, "--target", str(tmp_path / "none")]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    if constrained:
        command += ["--constraint", str(RECIPE / "constraints-jetpack6.txt")]
    report = tmp_path / "report.json"
    done = subprocess.run(
        [*command, "--report", str(report), *requirements()],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = [entry["metadata"] for entry in json.loads(report.read_text())["install"]]
    named = {entry["name"].casefold(): entry["version"] for entry in found}
    assert not [name for name in named if name.startswith(SHADOWS)]
    if constrained:
        assert named["numpy"].startswith("1.")
        assert named["onnxruntime"].startswith("1.23.")


def test_the_container_copies_what_exists_and_installs_extras_that_exist() -> None:
    text = (RECIPE / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
    asked = re.search(r"/src\[([\w,]+)\]", text)
    assert asked is not None
    assert tuple(asked[1].split(",")) == EXTRAS


def test_the_recipe_says_that_it_was_not_run_on_one() -> None:
    assert "Not run on a Jetson" in (RECIPE / "README.md").read_text()
