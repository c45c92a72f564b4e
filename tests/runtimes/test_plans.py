"""The cache of plans: what it takes for another's, what it survives, and who builds when several want to."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeemo.errors import BackendError
from edgeemo.runtimes.plans.key import PlanKey, key_from_json, profile_name
from edgeemo.runtimes.plans.lock import Holder, PlanLock, process_start, read_holder
from edgeemo.runtimes.plans.sealed import MAGIC, read_sealed, write_sealed
from edgeemo.runtimes.plans.store import PlanCache

KEY = PlanKey(
    engine_sha256="ab" * 32,
    flavour="tensorrt",
    version="10.3.0",
    gpu="Orin",
    capabilities=("8.7",),
    precision="fp16",
    profile="features.audio=1x40x64;mask.audio=1x40",
)
PLAN = bytes(range(256)) * 40


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans", brought=())


def builder(plan: bytes = PLAN) -> tuple[Callable[[], tuple[bytes, float]], list[int]]:
    """Returns a build and the list that it adds to when it runs."""
    built: list[int] = []

    def build() -> tuple[bytes, float]:
        built.append(1)
        return plan, 1.5

    return build, built


def stored(cache: PlanCache, key: PlanKey = KEY, plan: bytes = PLAN) -> Path:
    path = cache.find_or_build(key, "audio", builder(plan)[0]).path
    assert path is not None
    return path


class TestKey:
    def test_it_is_built_once_and_found_again(self, cache: PlanCache) -> None:
        build, built = builder()
        first = cache.find_or_build(KEY, "audio", build)
        again = cache.find_or_build(KEY, "audio", build)
        assert (bytes(first.plan), bytes(again.plan)) == (PLAN, PLAN)
        assert (first.seconds, again.seconds) == (1.5, None)
        assert [path.suffix for path in cache.folder.iterdir()] == [".plan"]
        assert built == [1]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"version": "10.7.0"}, "plan is for TensorRT 10.3.0, here is 10.7.0"),
            ({"capabilities": ("8.9",)}, "plan is for sm_87, this GPU is sm_89"),
            ({"gpu": "Orin NX"}, "plan is for Orin, this GPU is Orin NX"),
            ({"profile": "features.audio=1x80x64"}, "plan has another profile"),
            ({"workspace_mb": 64}, "plan has another workspace mb: 0, wanted 64"),
            ({"dla": 0}, "plan has another dla: -1, wanted 0"),
            ({"level": 5}, "plan has another level"),
            ({"flavour": "rtx"}, "plan is for TensorRT"),
            ({"engine_sha256": "cd" * 32}, ""),
            ({"precision": "int8-trt"}, ""),
        ],
    )
    def test_whatever_differs_is_another_plan(
        self, cache: PlanCache, change: dict[str, object], words: str
    ) -> None:
        stored(cache)
        other = replace(KEY, **change)  # type: ignore[arg-type]  # one field of its own type
        found, why = cache.find(other)
        assert found is None
        assert words in why
        assert bool(words) == bool(why)
        build, built = builder(b"other")
        assert bytes(cache.find_or_build(other, "audio", build).plan) == b"other"
        assert built
        assert bytes(cache.find_or_build(KEY, "audio", build).plan) == PLAN

    def test_other_build_options_will_do_where_none_are_asked_for(self, cache: PlanCache) -> None:
        stored(cache, replace(KEY, dla=0, workspace_mb=64, level=1))
        found, _ = cache.find(KEY, any_options=True)
        assert found is not None
        assert (found.key.dla, bytes(found.plan)) == (0, PLAN)
        stored(cache, KEY, b"exactly")
        exact, _ = cache.find(KEY, any_options=True)
        assert exact is not None
        assert bytes(exact.plan) == b"exactly"
        assert cache.find(replace(KEY, version="10.7.0"), any_options=True)[0] is None

    def test_a_plan_for_several_generations_serves_each(self, cache: PlanCache) -> None:
        three = replace(KEY, flavour="rtx", gpu="", capabilities=("8.6", "8.9", "12.0"))
        stored(cache, three)
        for capability in three.capabilities:
            found, why = cache.find(replace(three, capabilities=(capability,)))
            assert found is not None, why
        found, why = cache.find(replace(three, capabilities=("7.5",)))
        assert found is None
        assert why == "plan is for sm_86, sm_89, sm_120, this GPU is sm_75"

    def test_brought_plans_are_found_by_what_they_hold(self, cache: PlanCache, tmp_path: Path) -> None:
        brought = tmp_path / "brought"
        brought.mkdir()
        stored(cache).rename(brought / "any name.plan")
        assert cache.find(KEY)[0] is None
        found, _ = PlanCache(cache.folder, brought=(brought,)).find(KEY)
        assert found is not None
        assert bytes(found.plan) == PLAN

    def test_the_environment_names_folders(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGEEMO_PLANS", os.pathsep.join((str(tmp_path / "a"), str(tmp_path / "b"))))
        assert PlanCache().brought == (tmp_path / "a", tmp_path / "b")

    def test_profiles_are_sorted(self) -> None:
        assert profile_name({"b": (1, 2), "a": (1,)}) == "a=1;b=1x2"

    @pytest.mark.parametrize(
        "data",
        [None, {}, {"gpu": 1}, [], {**KEY.__dict__, "capabilities": "8.7"}, {**KEY.__dict__, "dla": "no"}],
    )
    def test_what_is_no_key_is_refused(self, data: object) -> None:
        with pytest.raises(BackendError, match="the plan's header holds"):
            key_from_json(data)


class TestDamage:
    @pytest.mark.parametrize("where", [0, len(MAGIC) + 5, -1])
    def test_a_changed_byte_is_seen_and_the_plan_built_again(self, cache: PlanCache, where: int) -> None:
        path = stored(cache)
        data = bytearray(path.read_bytes())
        data[where] ^= 0xFF
        path.write_bytes(data)
        found, why = cache.find(KEY)
        assert found is None
        assert str(path) in why
        assert not path.exists()
        build, built = builder()
        assert bytes(cache.find_or_build(KEY, "audio", build).plan) == PLAN
        assert built

    @pytest.mark.parametrize("size", [0, 5, len(MAGIC) + 3, 500, -1])
    def test_a_file_cut_short_is_seen(self, cache: PlanCache, size: int) -> None:
        path = stored(cache)
        path.write_bytes(path.read_bytes()[:size])
        assert cache.find(KEY)[0] is None
        assert not path.exists()

    def test_a_brought_plan_that_is_damaged_stays_for_its_owner(self, tmp_path: Path) -> None:
        brought = tmp_path / "brought"
        brought.mkdir()
        path = stored(PlanCache(brought, brought=()))
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        found, why = PlanCache(tmp_path / "own", brought=(brought,)).find(KEY)
        assert found is None
        assert "is damaged" in why
        assert path.exists()

    def test_other_files_are_left_alone(self, cache: PlanCache, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match="cannot be read: No such file"):
            read_sealed(tmp_path / "none")
        (tmp_path / "text").write_text("hello")
        with pytest.raises(BackendError, match="no file of this kind"):
            read_sealed(tmp_path / "text")
        for line in (b"{}", b"[1]", b"{"):
            (tmp_path / "odd").write_bytes(MAGIC + line + b"\n")
            with pytest.raises(BackendError, match="says nothing readable"):
                read_sealed(tmp_path / "odd")
        write_sealed(tmp_path / "good", {"a": 1}, b"payload")
        header, payload = read_sealed(tmp_path / "good")
        assert (header["a"], bytes(payload)) == (1, b"payload")


class TestSize:
    def test_the_plan_used_longest_ago_goes(self, tmp_path: Path) -> None:
        cache = PlanCache(tmp_path, brought=(), limit_mb=3 * len(PLAN) / 1e6)
        keys = [replace(KEY, engine_sha256=digit * 64) for digit in "123"]
        for age, key in enumerate(keys[:2]):
            path = stored(cache, key)
            os.utime(path, (1000 + age, 1000 + age))
        assert cache.find(keys[0])[0] is not None  # used now: the second one is the oldest
        stored(cache, keys[2])
        assert [cache.find(key)[0] is not None for key in keys] == [True, False, True]

    def test_what_was_just_built_stays_however_large(self, tmp_path: Path) -> None:
        cache = PlanCache(tmp_path, brought=(), limit_mb=0)
        assert stored(cache).exists()

    def test_list_and_clear(self, cache: PlanCache) -> None:
        assert cache.entries() == ()
        assert cache.clear() == (0, 0)
        path = stored(cache)
        stored(cache, replace(KEY, dla=0))
        (cache.folder / f"{path.stem}.sm_87.kernels").write_bytes(b"123")
        assert {entry.engine for entry in cache.entries()} == {"audio"}
        assert len(cache.entries()) == 2
        assert cache.entries()[0].key in (KEY, replace(KEY, dla=0))
        total = cache.total_bytes()
        assert cache.clear() == (2, total)
        assert cache.entries() == ()


class TestDisk:
    @pytest.mark.skipif(os.name == "nt", reason="needs permissions of POSIX")
    def test_a_read_only_folder_is_said_in_words(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = tmp_path / "closed"
        folder.mkdir()
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        try:
            if os.access(
                folder, os.W_OK
            ):  # root may write everywhere: a file in the way is refused to it too
                folder.rmdir()
                folder.write_text("in the way")
            build, built = builder()
            opened = PlanCache(folder, brought=()).find_or_build(KEY, "audio", build)
            assert bytes(opened.plan) == PLAN
            assert opened.path is None
            assert built
            assert opened.trouble.startswith(f"plans cannot be kept in {folder}: ")
            assert "set EDGEEMO_CACHE" in opened.trouble
            assert opened.trouble in caplog.text
        finally:
            folder.chmod(stat.S_IRWXU)

    def test_a_full_disk_costs_only_the_next_build(self, tmp_path: Path) -> None:
        """The system itself stops the write after 4000 bytes."""
        program = (
            "import resource, signal, sys; sys.path.insert(0, sys.argv[2])\n"
            "from pathlib import Path\n"
            "from test_plans import KEY, PLAN, builder\n"
            "from edgeemo.runtimes.plans.store import PlanCache\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
            "opened = PlanCache(Path(sys.argv[1]), brought=()).find_or_build(KEY, 'audio', builder()[0])\n"
            "print(bytes(opened.plan) == PLAN, opened.path, opened.trouble)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith(
            f"True None plans cannot be kept in {tmp_path}: no room left on the disk"
        )
        assert not list(tmp_path.glob("*.plan"))
        assert not list(tmp_path.glob("*.tmp"))
        assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4000


BUILDS = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_plans import KEY, PLAN
from edgeemo.runtimes.plans.store import PlanCache
def build():
    print("building", flush=True)
    time.sleep(float(sys.argv[3]))
    return PLAN, 1.0
opened = PlanCache(Path(sys.argv[1]), brought=()).find_or_build(KEY, "audio", build)
print("built" if opened.seconds else "found", flush=True)
"""


def start_builder(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDS, str(folder), str(Path(__file__).parent), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class TestBuilders:
    def test_of_two_one_builds_and_the_other_waits(self, tmp_path: Path) -> None:
        with start_builder(tmp_path, 1.0) as first:
            assert next_line(first) == "building"
            with start_builder(tmp_path, 0.0) as second:
                assert next_line(second) == "found"
            assert next_line(first) == "built"

    def test_of_two_threads_one_builds(self, cache: PlanCache) -> None:
        built: list[int] = []

        def build() -> tuple[bytes, float]:
            built.append(1)
            time.sleep(0.3)
            return PLAN, 1.0

        threads = [threading.Thread(target=cache.find_or_build, args=(KEY, "audio", build)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert built == [1]

    def test_a_killed_builder_leaves_nothing_and_the_waiting_one_takes_over(self, tmp_path: Path) -> None:
        with start_builder(tmp_path, 600.0) as first:
            assert next_line(first) == "building"
            with start_builder(tmp_path, 0.0) as second:
                time.sleep(0.5)  # it waits by now, or will find the dead one's lock: both must work
                first.kill()
                assert next_line(second) == "building"
                assert next_line(second) == "built"
        assert first.returncode == -signal.SIGKILL
        assert PlanCache(tmp_path, brought=()).find(KEY)[0] is not None
        assert not list(tmp_path.glob("*.tmp"))

    def test_a_failed_build_lets_the_next_one_try(self, cache: PlanCache) -> None:
        def fail() -> tuple[bytes, float]:
            raise BackendError("no")

        with pytest.raises(BackendError, match="no"):
            cache.find_or_build(KEY, "audio", fail)
        build, built = builder()
        cache.find_or_build(KEY, "audio", build)
        assert built

    def test_a_builder_that_does_not_finish_is_named(self, tmp_path: Path) -> None:
        with start_builder(tmp_path, 600.0) as first:
            assert next_line(first) == "building"
            with pytest.raises(BackendError, match=rf"held by process {first.pid} since \d\d:\d\d:\d\d UTC"):
                PlanCache(tmp_path, brought=()).find_or_build(KEY, "audio", builder()[0], wait_s=0.3)
            stop = threading.Event()
            stop.set()
            with pytest.raises(BackendError, match="another builder of the same plan was cancelled"):
                PlanCache(tmp_path, brought=()).find_or_build(KEY, "audio", builder()[0], stop=stop)
            first.kill()


class TestLock:
    def test_it_names_its_holder_while_it_is_held(self, tmp_path: Path) -> None:
        place = tmp_path / "a.lock"
        with PlanLock(place).acquire(0):
            holder = read_holder(place)
            assert holder is not None
            assert holder.pid == os.getpid()
            assert holder.is_alive()
            with pytest.raises(BackendError, match=rf"held by process {os.getpid()} since"):
                PlanLock(place).acquire(0)
        assert read_holder(place) is None
        PlanLock(place).acquire(0).release()

    def test_a_stale_one_is_taken_over(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        ended = subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
        )
        place = tmp_path / "a.lock"
        place.write_text(
            json.dumps({"pid": int(ended.stdout), "started": "1", "since": "2026-01-01T10:11:12"})
        )
        with caplog.at_level("INFO"):
            PlanLock(place).acquire(0).release()
        assert f"taking over the lock of process {int(ended.stdout)} since 10:11:12 UTC" in caplog.text

    def test_a_number_that_belongs_to_another_process_now_is_nobody(self) -> None:
        own = process_start(os.getpid())
        assert Holder(os.getpid(), own, "").is_alive()
        if own:
            assert not Holder(os.getpid(), f"{own}0", "").is_alive()

    def test_where_there_are_no_locks_the_holder_decides(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_locks(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        place = tmp_path / "a.lock"
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
            said = {"pid": other.pid, "started": process_start(other.pid), "since": ""}
            place.write_text(json.dumps(said))
            with pytest.raises(BackendError, match=f"held by process {other.pid}"):
                PlanLock(place).acquire(0)
            other.kill()
            other.wait()
            PlanLock(place).acquire(0).release()
