"""`edgeemo serve`, as a user starts and ends it."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs fastapi")
pytest.importorskip("uvicorn", reason="needs uvicorn")
pytest.importorskip("websockets", reason="needs websockets")

import httpx
from live_server import TOKEN, wait_for

from edgeemo.cli.main import main
from edgeemo.errors import MissingDependencyError
from edgeemo.serve.address import bind_socket
from edgeemo.serve.packages import require_packages
from edgeemo.shipped import RECORDING

PATTERNS = ("--mic", "pattern", "--camera", "pattern")


@contextmanager
def serving(
    *words: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts the command; gives its process and the URL that it prints."""
    command = [sys.executable, "-m", "edgeemo", "serve", "--port", "0", "--variant", "int8", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(environment or {})},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("edgeemo serve: http://"), line
            yield process, line.split()[2]
        finally:
            process.kill()


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["serve", *words])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_good_order(number: signal.Signals, code: int) -> None:
    with serving(*PATTERNS) as (process, url):
        assert httpx.get(f"{url}healthz", trust_env=False).json() == {"ok": True}
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert process.returncode == code
        assert "Traceback" not in err


def test_a_crowd_does_not_take_the_files_that_the_session_needs() -> None:
    words = [sys.executable, "-m", "edgeemo", "serve", "--port", "0", "--max-clients", "20", *PATTERNS]
    command = ["bash", "-c", f"ulimit -n 256; exec {shlex.join(words)}"]
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        url = process.stdout.readline().split()[2]
        port = int(url.rstrip("/").rpartition(":")[2])
        with ExitStack() as crowd:
            for _ in range(500):
                raw = crowd.enter_context(socket.socket())
                raw.setblocking(False)
                raw.connect_ex(("127.0.0.1", port))
            time.sleep(1.0)
        hops = -1

        def goes_on() -> bool:
            nonlocal hops
            try:
                found = httpx.get(f"{url}v1/stats", trust_env=False).json()["hops"]
            except httpx.TransportError:  # the crowd is still being turned away
                return False
            hops = found if hops < 0 else hops
            return bool(found > hops)

        wait_for(goes_on, "readings go on")
        process.terminate()
        _, err = process.communicate(timeout=20)
        assert "Too many open files" not in err


def test_a_recording_plays_again_and_again() -> None:
    words = ("--media", str(RECORDING), "--loop", "--set", "hop_s=0.25")
    with serving(*words) as (_, url), httpx.Client(base_url=url, trust_env=False) as client:
        wait_for(lambda: client.get("/v1/reading").json().get("subset") is not None, "an emotion")
        status = client.get("/v1/stats").json()["sensors"]
        assert {name for name, sensor in status.items() if sensor["state"] == "running"} == {
            "audio", "video", "text",
        }  # fmt: skip


def test_the_notice_is_named_and_the_token_of_the_environment_counts() -> None:
    words = ("--host", "0.0.0.0", "--notice", "You are being sensed.", *PATTERNS)  # noqa: S104
    with serving(*words, environment={"EDGEEMO_TOKEN": TOKEN}) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{url}v1/stats", trust_env=False).status_code == 401
        client = httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False)
        with client:
            assert client.get("/v1/stats").json()["hops"] == 0
            assert client.put("/v1/notice", json={"by": "a test"}).status_code == 200
            wait_for(lambda: client.get("/readyz").status_code == 200, "readings")
        process.terminate()
        _, err = process.communicate(timeout=20)
        assert "no sensor opens before somebody acknowledges the notice there" in err


def test_a_port_in_use_is_said_before_any_device_opens(capsys: pytest.CaptureFixture[str]) -> None:
    with bind_socket("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        code, err = refused(capsys, "--port", port, "--mic", "no such microphone", "--camera", "none")
    assert code == 1
    assert f"edgeemo serve: port {port} of 127.0.0.1 is in use by another program" in err


def test_a_device_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = refused(capsys, "--port", "0", "--mic", "none", "--camera", "/dev/no_such_camera")
    assert code == 1
    assert "/dev/no_such_camera" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--host", "0.0.0.0"), 1, "0.0.0.0 can be reached from other machines"),  # noqa: S104
        (("--loop",), 2, "--loop plays a recording again and again; give one with --media"),
        (("--media", "talk.mp4", "--mic", "pattern"), 2, "leave --mic, --camera, --text and --sensor away"),
        (("--port", "0", "--mic", "none", "--camera", "none"), 2, "every sensor is switched off"),
        (("--port", "0", "--media", "no_such_file.mp4"), 1, "no_such_file.mp4"),
        (("--port", "-1"), 1, "a port is 0 to 65535"),
        (("--port", "0", "--notice", " ", *PATTERNS), 1, "a notice needs words"),
        (("--token-file", "no_such_file"), 1, "the token file no_such_file cannot be read"),
    ],
)
def test_misuse_is_a_sentence(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.delenv("EDGEEMO_TOKEN", raising=False)
    found, err = refused(capsys, *words)
    assert said in err
    assert found == code


def test_a_recording_that_is_no_media_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    path.write_text("no film")
    code, err = refused(capsys, "--port", "0", "--media", str(path), "--loop")
    assert code == 1
    assert "talk.mp4" in err


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "edgeemo.serve.packages.find_spec", lambda name: None if name == "uvicorn" else object()
    )
    with pytest.raises(MissingDependencyError, match=r"needs uvicorn.*pip install 'edgeemo\[serve\]'"):
        require_packages()


def test_help_loads_no_server() -> None:
    program = (
        "import sys; from edgeemo.cli.main import build_parser; build_parser(); "
        "heavy = {'fastapi', 'uvicorn', 'websockets', 'prometheus_client'}; print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
