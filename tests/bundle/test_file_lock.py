"""Locks on open files: who gets one, how long it lasts, and what a file system without them does."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeemo.bundle.file_lock import NoLocksError, lock_file
from edgeemo.bundle.hold import HeldFiles, delete_unheld
from edgeemo.records import header_from_manifest, open_recorder
from edgeemo.session import Session

HOLDER = """
import os, sys
from edgeemo.bundle.file_lock import lock_file
print(lock_file(os.open(sys.argv[1], os.O_RDWR), shared=sys.argv[2] == "shared"), flush=True)
sys.stdin.read()
"""


@contextmanager
def opened(place: Path, access: int = os.O_RDWR) -> Iterator[int]:
    descriptor = os.open(place, access | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def held_elsewhere(place: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    words = [sys.executable, "-c", HOLDER, str(place), how]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "True"
        yield other
        other.kill()


@pytest.mark.parametrize(
    ("theirs", "shared", "mine"),
    [("alone", False, False), ("alone", True, False), ("shared", False, False), ("shared", True, True)],
)
def test_many_may_share_and_one_may_have_it_alone(
    tmp_path: Path, theirs: str, shared: bool, mine: bool
) -> None:
    place = tmp_path / "file"
    place.write_bytes(b"words")
    with held_elsewhere(place, theirs), opened(place) as descriptor:
        assert lock_file(descriptor, shared=shared) is mine
    assert place.read_bytes() == b"words"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    with held_elsewhere(place, "alone") as other, opened(place) as descriptor:
        assert not lock_file(descriptor)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert lock_file(descriptor)


def test_a_file_that_is_read_only_can_be_shared(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch(mode=0o400)
    with opened(place, os.O_RDONLY) as one, opened(place, os.O_RDONLY) as other:
        assert lock_file(one, shared=True)
        assert lock_file(other, shared=True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_keeps_nobody_from_his_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def none_here(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none_here)
    place = tmp_path / "file"
    with opened(place) as descriptor, pytest.raises(NoLocksError):
        lock_file(descriptor)
    with HeldFiles(tmp_path, ["file"]) as held:
        assert len(held) == 1
        assert not delete_unheld(place)  # nobody can tell whether it is held
    with Session() as session:
        header = header_from_manifest(session.manifest, hop_s=session.hop_s)
        with open_recorder(tmp_path / "record.jsonl", header) as recorder:
            recorder.write(session.read())
            assert recorder.written == 1


def test_what_else_a_disk_says_is_no_lock_of_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with opened(tmp_path / "file") as descriptor, pytest.raises(OSError, match="Input/output error"):
        lock_file(descriptor)
