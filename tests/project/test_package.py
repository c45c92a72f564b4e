"""What is installed is what is here, and importing it costs next to nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
ROOMS = {"edgeemo": "edgeemo", "export": "edgeemo/export", "runtimes": "edgeemo/runtimes"}
ROOMS["training"] = "edgeemo/training"
HEAVY = {
    "torch",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "cv2",
    "av",
    "sounddevice",
    "tensorrt",
    "pycuda",
    "pyarrow",
    "rich",
    "fastapi",
    "paho",
    "ray",
    "matplotlib",
    "tritonclient",
}


def loaded_by(statement: str) -> set[str]:
    """Returns the top-level modules that a fresh interpreter holds after a statement."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_no_more_than_the_standard_library() -> None:
    added = loaded_by("import edgeemo") - loaded_by("pass")
    assert not added & (HEAVY | {"numpy"})


@pytest.mark.parametrize(
    "statement",
    [
        "import edgeemo; edgeemo.Session, edgeemo.Microphone, edgeemo.Camera, edgeemo.MediaFile",
        "import edgeemo.runtimes, edgeemo.export, edgeemo.evaluation, edgeemo.records",
        "import edgeemo.serve, edgeemo.mqtt, edgeemo.batch, edgeemo.plots, edgeemo.export.triton",
    ],
)
def test_heavy_packages_load_when_they_are_first_used(statement: str) -> None:
    assert not loaded_by(statement) & HEAVY


def test_the_wheel_holds_every_file_of_every_room(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in (*ROOMS, "pyproject.toml", "README.md", "LICENSE"):
        origin = PROJECT / name
        if origin.is_dir():
            # The symlinks in edgeemo/ are for type checkers; an install must not need them.
            shutil.copytree(
                origin,
                source / name,
                ignore=lambda folder, names: [n for n in names if (Path(folder) / n).is_symlink()],
            )
        else:
            shutil.copy(origin, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"{package}/{path.relative_to(source / room).as_posix()}"
        for room, package in ROOMS.items()
        for path in (source / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != ".lock"
    }
    assert packed == expected


def test_no_bare_imports_of_the_rooms() -> None:
    bare = re.compile(r"^\s*(from|import) (export|runtimes|training)\b", re.MULTILINE)
    for room in (*ROOMS, "samples", "tests", "benchmarks"):
        for path in (PROJECT / room).rglob("*.py"):
            assert not bare.search(path.read_text(encoding="utf8")), path
