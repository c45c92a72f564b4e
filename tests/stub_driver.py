"""A CUDA driver without a GPU, compiled from `data/stub_driver.c`, for processes that run over it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "data" / "stub_driver.c"
TESTS = Path(__file__).parent


def build_stub(folder: Path) -> Path:
    """Returns the folder that holds the stub as ``libcuda.so.1``; skips where it cannot be compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a GPU, or Linux and a C compiler for the driver that stands in for it")
    command = [compiler, "-D_GNU_SOURCE", "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1"]
    library = folder / "libcuda.so.1"
    subprocess.run([*command, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return folder


def run_program(
    program: str, *arguments: str, stub: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a Python program in a process of its own, over the stub where one is given.

    The modules of the tests can be imported by it.
    """
    paths = os.pathsep.join(filter(None, (str(stub or ""), os.environ.get("LD_LIBRARY_PATH", ""))))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": paths, "PYTHONPATH": str(TESTS), **environment},
    )
