"""Files in use are not deleted, and nothing is written to say so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeemo.bundle.hold import HeldFiles, delete_unheld
from edgeemo.errors import BundleError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows refuses to delete what is open")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "graph.onnx").write_bytes(b"graph")
    return tmp_path / "graph.onnx"


def test_a_held_file_stays_until_everybody_let_go(place: Path) -> None:
    first, second = (HeldFiles(place.parent, ["graph.onnx"]) for _ in range(2))
    assert len(first) == 1
    assert not delete_unheld(place)
    first.close()
    first.close()
    assert not delete_unheld(place)
    second.close()
    assert delete_unheld(place)
    assert not place.exists()
    assert not list(place.parent.iterdir())


def test_a_dead_process_holds_nothing(place: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from edgeemo.bundle.hold import HeldFiles\n"
        "held = HeldFiles(Path(sys.argv[1]), ['graph.onnx']); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(place.parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        assert not delete_unheld(place)
        holder.kill()
    assert delete_unheld(place)


def test_a_file_that_is_not_there_is_named_and_nothing_stays_held(place: Path) -> None:
    with pytest.raises(BundleError, match=r"other\.onnx: cannot be read"):
        HeldFiles(place.parent, ["graph.onnx", "other.onnx"])
    assert delete_unheld(place)


def test_a_file_that_is_replaced_while_it_is_opened(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_late(name: Path, flags: int) -> int:
        descriptor = really(name, flags)
        place.unlink()
        return descriptor

    really = os.open
    monkeypatch.setattr("edgeemo.bundle.hold.os.open", open_late)
    with pytest.raises(BundleError, match="was deleted; open it again"):
        HeldFiles(place.parent, ["graph.onnx"])


def test_a_link_goes_and_what_it_points_to_stays(place: Path) -> None:
    link = place.with_name("link.onnx")
    link.symlink_to(place)
    assert delete_unheld(link)
    assert place.read_bytes() == b"graph"
