"""Nothing that runs here reports to anybody: onnxruntime's usage data stays switched off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
import edgeemo
session = edgeemo.Session()
if os.fork() == 0:
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))
session.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_a_session_leaves_no_usage_data_and_lets_a_fork_end(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    environment.pop("XDG_CACHE_HOME", None)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.stdout.strip() == "7", ran.stderr
    assert not list(tmp_path.rglob("*onnxruntime*"))
