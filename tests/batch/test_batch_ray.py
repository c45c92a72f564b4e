"""Archives on Ray: equal to one session after the other, whatever is killed, here and on a cluster."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow")
pytest.importorskip("av", reason="needs PyAV")
if importlib.util.find_spec("ray") is None:  # not imported: it warns, and warnings are errors here
    pytest.skip("needs ray", allow_module_level=True)
if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)

from short_recording import write_short_recording

from edgeemo import Session
from edgeemo.records import read_sessions
from edgeemo.session import EngineOptions

ENGINES = EngineOptions(variant="int8")
OPTIONS = ("--variant", "int8")
QUIET = {"RAY_USAGE_STATS_ENABLED": "1"}  # what a careless environment says; nothing may be sent all the same


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five recordings of different lengths and a broken one."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(5):
        write_short_recording(folder / f"{number}.mp4", seconds=2.0 + number)
    (folder / "broken.mp4").write_text("no recording")
    return folder


@pytest.fixture(scope="module")
def expected(archive: Path) -> list[list[dict[str, object]]]:
    """What sessions say, one after the other in this process."""
    found = []
    for number in range(5):
        with Session(media=archive / f"{number}.mp4", engines=ENGINES) as session:
            found.append([reading.to_json() for reading in session])
    return [*found, []]


def said_by(table: Path) -> list[list[dict[str, object]]]:
    return [list(session.readings) for session in read_sessions(table)]


@contextmanager
def batch(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "edgeemo", "batch", *words, *OPTIONS]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **QUIET},
        start_new_session=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"still not so after 120 s: {what}")


def parts_of(table: Path) -> int:
    return len(list(table.with_name(f"{table.name}.parts").glob("*.parquet")))


def processes_of(ancestor: int) -> dict[int, str]:
    """Returns what runs under a process: pid -> what it calls itself."""
    parents, names = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            name = (place / "cmdline").read_text().replace("\0", " ")
            parents[int(place.name)] = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        names[int(place.name)] = name
    found = {}
    for pid, parent in parents.items():
        above = parent
        while above in parents and above != ancestor:
            above = parents[above]
        if above == ancestor:
            found[pid] = names[pid]
    return found


def busy_workers(ancestor: int) -> list[int]:
    return [
        pid
        for pid, name in processes_of(ancestor).items()
        if name.startswith("ray::MapWorker") and ".submit" in name
    ]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_two_workers_say_what_one_session_says_and_one_of_them_may_be_killed(
    archive: Path, expected: list[list[dict[str, object]]], tmp_path: Path
) -> None:
    table = tmp_path / "t.parquet"
    with batch(str(archive), "--out", str(table), "--workers", "2") as running:
        wait_for(lambda: parts_of(table) >= 1 and len(busy_workers(running.pid)) > 0, "a worker is at work")
        family = processes_of(running.pid)
        assert sum(name.startswith("ray::MapWorker") for name in family.values()) == 2
        os.kill(busy_workers(running.pid)[0], signal.SIGKILL)
        out, err = running.communicate(timeout=180)
        assert running.returncode == 0, err
    assert said_by(table) == expected
    assert "of 6 recordings; 1 could not be scored" in out
    assert "broken.mp4: broken.mp4 cannot be read as a recording" in err
    for noise in ("ray", "Ray", "raylet", "dataset", "WARNING", "INFO"):
        assert noise not in (out + err).replace(str(tmp_path), "").replace(str(archive), ""), (out, err)
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]
    wait_for(lambda: all(map(is_gone, family)), "Ray's processes have ended")


def test_whatever_ends_the_run_the_next_one_goes_on_and_a_cluster_finishes_it(
    archive: Path, expected: list[list[dict[str, object]]], tmp_path: Path
) -> None:
    table = tmp_path / "t.parquet"
    with batch(str(archive), "--out", str(table), "--workers", "1") as running:
        wait_for(lambda: parts_of(table) >= 1, "something is scored")
        family = processes_of(running.pid)
        running.kill()
        running.communicate(timeout=60)
    first = parts_of(table)
    assert 1 <= first < len(expected)
    workers = [pid for pid, name in family.items() if name.startswith("ray::MapWorker")]
    wait_for(lambda: all(map(is_gone, workers)), "no worker goes on without its driver")
    with cluster() as address:
        words = (str(archive), "--out", str(table), "--address", address, "--json")
        with batch(*words) as running:
            wait_for(lambda: parts_of(table) > first, "more is scored, on the cluster")
            os.killpg(running.pid, signal.SIGINT)
            _, err = running.communicate(timeout=60)
        assert running.returncode == 130
        assert "stopped; what was scored is kept in" in err
        assert "Traceback" not in err
        second = parts_of(table)
        assert first < second
        assert not table.exists()
        with batch(*words) as running:
            out, err = running.communicate(timeout=180)
        assert running.returncode == 0, err
    assert json.loads(out)["kept"] == second
    assert json.loads(out)["scored"] == len(expected) - second
    assert said_by(table) == expected


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args=head)
cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
print("at", cluster.address, flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@contextmanager
def cluster() -> Iterator[str]:
    """Gives the address of a cluster of two nodes with a processor each."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    ) as running:
        assert running.stdout
        assert running.stdin
        address = ""
        while not address:
            line = running.stdout.readline()
            assert line, "the cluster did not start"
            address = line.partition("at ")[2].strip()
        try:
            yield address
        finally:
            running.stdin.write("\n")
            running.stdin.close()
            running.wait(60)


def test_a_recording_that_kills_its_worker_each_time_is_a_row(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(archive / "4.mp4", tmp_path / "in" / "deadly.mp4")
    table = tmp_path / "t.parquet"
    killed: set[int] = set()
    with batch(str(tmp_path / "in"), "--out", str(table), "--workers", "1", "--json") as running:
        while running.poll() is None:
            for pid in busy_workers(running.pid):
                time.sleep(0.3)  # for the try to be counted
                if len(killed) < 12 and pid not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
            time.sleep(0.02)
        out, err = running.communicate()
    assert running.returncode == 1, err
    summary = json.loads(out)
    assert [error["error"] for error in summary["errors"]] == [
        "the process that scored it ended 3 times without a word, as from a crash or for want of memory"
    ]
    assert len(killed) >= 3


OTHER_BUNDLE = """
import sys
from dataclasses import replace
from edgeemo.batch import find_recordings, score_archive
from edgeemo.batch.plan import plan_from_options
from edgeemo.batch.ray_pool import RayPool
from edgeemo.errors import RecordError
from edgeemo.session import EngineOptions
plan = plan_from_options(None, engines=EngineOptions(), settings={})
pool = RayPool(replace(plan, bundle_sha256="0" * 64), workers=1)
try:
    score_archive(find_recordings([sys.argv[1]]), sys.argv[2], plan=plan, pool=pool)
except RecordError as error:
    print(error)
"""


def test_a_machine_with_another_bundle_ends_the_run(archive: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OTHER_BUNDLE, str(archive), str(tmp_path / "t.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert "a worker cannot score" in done.stdout, done.stderr
    assert "the run began with 000000000000; put the same bundle on every machine" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path, archive: Path) -> None:
    with batch(str(archive), "--out", str(tmp_path / "t.parquet"), "--address", "127.0.0.1:1") as running:
        _, err = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "no Ray cluster answers at 127.0.0.1:1" in err
    assert "`ray start --head`" in err
    assert not list(tmp_path.iterdir())
