"""onnxruntime 1.23.2, the newest that Python 3.10 can have (JetPack 6), opens every engine and agrees.

It lives in a virtual environment of its own, made once a session: beside the installed one it cannot be.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from engine_answers import answers_of

from edgeemo.bundle import Bundle

ROOT = Path(__file__).resolve().parents[2]
VERSION = "1.23.2"
# Root mean square, of the logits'. fp32 sums in another order; elsewhere a number rounded on the way may
# tip over. Pairs for TensorRT are fused by one version and not by the other: a level of eight bits at each
# of several layers, on a network of eight numbers a layer.
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3, "int8": 0.01, "int8-trt": 0.1}


@pytest.fixture(scope="session")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that holds the oldest onnxruntime."""
    folder = tmp_path_factory.mktemp("oldest")
    venv.create(folder)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    install = [*pip, "install", "--quiet", f"onnxruntime=={VERSION}"]
    done = subprocess.run(install, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs onnxruntime {VERSION} from a package index: {done.stderr[-300:]}")
    found = subprocess.run(
        [python, "-c", "import onnxruntime; print(onnxruntime.__version__)"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == VERSION
    return python


@pytest.mark.parametrize("which", ["tiny", "shipped"])
def test_it_opens_every_graph_and_agrees(oldest: Path, tiny_export: Path, tmp_path: Path, which: str) -> None:
    folder = tiny_export if which == "tiny" else ROOT / "edgeemo" / "assets" / "live"
    place = tmp_path / "answers.npz"
    done = subprocess.run(
        [oldest, Path(__file__).with_name("engine_answers.py"), folder, place],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = answers_of(Bundle.open(folder))
    with np.load(place) as found:
        assert set(found.files) == set(expected)
        for name, array in expected.items():
            # Evidence is a part of the logits.
            scale = expected.get(f"{name.rpartition('/')[0]}/logits", array)
            error = np.sqrt(np.mean((found[name] - array) ** 2) / np.mean(scale**2))
            assert error <= TOLERANCE[name.split("/")[1]], name
