"""Fixtures for what only some machines have: the shared data, a broker, PortAudio."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mosquitto import Broker

SHARED = Path(os.environ.get("EDGEEMO_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def pytest_configure(config: pytest.Config) -> None:
    """Lets programs that tests start be interrupted, where a shell runs the tests in its background."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_silence() -> Iterator[None]:
    """Lets logs be heard again after a test of a program that keeps quiet for its process."""
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps measured choices of variants out of the user's cache, in subprocesses too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEEMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the tiny checkpoint in all variants; tests that change it copy it."""
    from edgeemo.export import VARIANTS, export_bundle

    checkpoint = Path(__file__).parent / "data" / "tiny_checkpoint"
    return export_bundle(checkpoint, tmp_path_factory.mktemp("tiny") / "bundle", variants=VARIANTS).bundle


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; the test skips where it is absent."""
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip("needs the shared data folder beside the project")
    return data


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, which runs; the test skips where mosquitto is missing."""
    from mosquitto import Broker, running

    with running(Broker(tmp_path)) as started:
        yield started


@pytest.fixture(scope="session")
def portaudio() -> None:
    """Skips where sounddevice or its PortAudio library is missing."""
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError) as reason:
        pytest.skip(f"needs PortAudio: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """Lists what skipped although this machine promised to have everything (EDGEEMO_NO_SKIPS=1)."""
    for report in _unwanted_skips(terminalreporter):
        terminalreporter.write_line(f"skipped where it should have run: {report.nodeid}: {report.longrepr}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fails the run for such skips."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(reporter, pytest.TerminalReporter) and _unwanted_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unwanted_skips(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    if os.environ.get("EDGEEMO_NO_SKIPS") != "1":
        return []
    return [
        report for report in reporter.stats.get("skipped", []) if "needs a GPU" not in str(report.longrepr)
    ]
