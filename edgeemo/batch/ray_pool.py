"""Recordings scored by a pool of processes on this machine or a cluster; the one file that knows Ray."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeemo.batch.leftovers import own_folder
from edgeemo.batch.plan import Plan
from edgeemo.batch.recordings import Recording, recording_from_bytes
from edgeemo.batch.score import Scorer
from edgeemo.batch.table import Scored
from edgeemo.errors import EdgeEmoError, InputError, MissingDependencyError, RecordError

MOST_TRIES = 3
"""How often a recording is begun whose worker dies each time."""
_WAVE = 4096  # recordings that Ray is told of at once: what it keeps in memory about them stays bounded
_STORE_BYTES = 256_000_000  # parts on their way from the workers
_BLOCK_BYTES = 8_000_000
_KNOCK_S = 10.0
_LONGEST_SOCKET = 44  # characters of a folder that leave room for the names of Ray's sockets in it


def check_ray() -> None:
    """Says before anything is scored what is missing.

    Raises:
        MissingDependencyError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingDependencyError(
            "scoring with several workers (--workers 0 needs none)", "ray", "pip install 'edgeemo[ray]'"
        )


class RayPool:
    """A pool of workers, each of which keeps a bundle open and scores one recording at a time.

    A worker that dies is started again and its recording begun anew, up to `MOST_TRIES` times; then the
    recording is one with an error. Nothing is sent to anybody: no usage data, no dashboard.

    Args:
        plan: how recordings are scored.
        workers: how many processes; None for what the processors here, or the cluster's, have room for.
        address: of a cluster; None for processes on this machine, for as long as the pool is open.

    Raises:
        MissingDependencyError: Ray is not installed.
    """

    def __init__(self, plan: Plan, *, workers: int | None = None, address: str | None = None) -> None:
        check_ray()
        self._plan, self._workers, self._address = plan, workers, address

    def __call__(self, recordings: Sequence[Recording]) -> Iterator[Scored]:
        """Yields what came of each recording, in the order in which they are done.

        Raises:
            InputError: the cluster cannot be reached.
            EdgeEmoError: no session can be opened on a worker.
            RecordError: the pool broke down.
        """
        with _connected(self._address, self._plan, self._workers, len(recordings)) as workers:
            for start in range(0, len(recordings), _WAVE):
                yield from _score(recordings[start : start + _WAVE], self._plan, workers)


class _Tries:
    """How often each recording was begun, which outlives the worker that it kills."""

    def __init__(self) -> None:
        self._tries: dict[str, int] = {}

    def begin(self, path: str) -> int:
        self._tries[path] = self._tries.get(path, 0) + 1
        return self._tries[path]


class _Worker:
    """What Ray Data keeps in each of its processes."""

    def __init__(self, plan: Plan, tries: Any) -> None:
        self._plan, self._tries = plan, tries
        self._scorer: Scorer | None = None  # opened with the first recording: its error then is an answer

    def __call__(self, batch: Any) -> Any:
        import pyarrow as pa
        import ray

        fatal, scored = "", None
        recording = recording_from_bytes(batch["recording"][0].as_py())
        try:
            if self._scorer is None:
                self._scorer = Scorer(self._plan)
            begun = ray.get(self._tries.begin.remote(recording.path))
            if begun > MOST_TRIES:
                why = (
                    f"the process that scored it ended {MOST_TRIES} times without a word, as from a crash or "
                    "for want of memory"
                )
                scored = self._scorer.fail(recording, why)
            else:
                scored = self._scorer.score(recording)
        except EdgeEmoError as error:
            fatal = str(error)
        row = {"fatal": fatal} | (scored or Scored(recording.path, None, 0, 0.0)).to_json()
        part = pa.array([scored.part if scored else b""], pa.large_binary())
        table = pa.Table.from_pylist([row], schema=_answer_schema())
        return table.append_column("part", part)


def _answer_schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("fatal", pa.string()),
            ("path", pa.string()),
            ("version", pa.string()),
            ("readings", pa.int64()),
            ("duration_s", pa.float64()),
            ("error", pa.string()),
        ]
    )


def _score(recordings: Sequence[Recording], plan: Plan, workers: int) -> Iterator[Scored]:
    import ray
    from ray.data import ActorPoolStrategy, from_items

    tries = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Tries).remote()
    items = [{"recording": recording.to_bytes()} for recording in recordings]
    answers = from_items(items, override_num_blocks=len(items)).map_batches(
        _Worker,
        batch_size=1,
        batch_format="pyarrow",
        fn_constructor_args=(plan, tries),
        compute=ActorPoolStrategy(
            size=min(workers, len(items)),
            max_tasks_in_flight_per_actor=2,  # a worker finds the next one waiting
        ),
        num_cpus=plan.engines.threads,
    )
    try:
        for batch in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in batch.to_pylist():
                if fatal := row.pop("fatal"):
                    raise RecordError(f"a worker cannot score: {fatal}")
                yield Scored(**row)
    except ray.exceptions.RayError as reason:
        lines = [line for line in str(reason).splitlines() if line.strip()] or [type(reason).__name__]
        raise RecordError(
            f"the pool of workers broke down: {lines[-1].strip()}; every machine needs this edgeemo with its "
            "extra `ray`; what was scored is kept"
        ) from None


@contextlib.contextmanager
def _connected(address: str | None, plan: Plan, workers: int | None, recordings: int) -> Iterator[int]:
    """Connects Ray, quietly, and gives the number of workers; Ray is gone afterwards."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    import ray
    import ray.data

    threads = plan.engines.threads
    folder = ""
    with _own_signals():
        if address is None:
            workers = workers or max(1, _processors() // threads)
            workers = max(1, min(workers, recordings))
            folder = own_folder("ray")
            place = {"_temp_dir": folder} if len(folder) <= _LONGEST_SOCKET else {}
            ray.init(
                address="local",
                num_cpus=workers * threads,
                object_store_memory=_STORE_BYTES,
                **_QUIET,
                **place,
            )
        else:
            try:
                _knock(address)
                ray.init(address=address, **_QUIET)
            except Exception as reason:  # Ray raises what its transport does: there is no common error
                said = (str(reason).strip() or type(reason).__name__).splitlines()[0].rstrip(". ")
                raise InputError(
                    f"no Ray cluster answers at {address}: {said}; start one with `ray start --head`, or "
                    "leave --address away for processes on this machine"
                ) from None
    try:
        if workers is None:
            workers = max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = _BLOCK_BYTES
        yield workers
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _knock(address: str) -> None:
    """Raises OSError at once where nobody listens: Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


_QUIET: dict[str, Any] = {
    "include_dashboard": False,
    "log_to_driver": False,
    "logging_level": logging.ERROR,
    "configure_logging": False,
}


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps what SIGTERM means here: Ray takes it over while it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def quiet_terminal(log: Path) -> Iterator[Any]:
    """Sends what Ray's processes and libraries print to a file; gives the real stderr as a text stream.

    Ray writes to the terminal from C++ and from threads of its own, which no logger can keep quiet.

    Args:
        log: appended to.
    """
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(log.open("ab"))
        saved = [os.dup(number) for number in (1, 2)]
        stream = stack.enter_context(open(saved[1], "w", buffering=1, errors="replace", closefd=False))
        try:
            _flush_standard_streams()
            for number in (1, 2):
                os.dup2(target.fileno(), number)
            yield stream
        finally:
            stream.flush()
            _flush_standard_streams()  # what Ray has printed must not come out once the terminal is back
            for number, old in zip((1, 2), saved, strict=True):
                os.dup2(old, number)
                os.close(old)


def _flush_standard_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
