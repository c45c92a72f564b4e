"""Triton Inference Server as nvidia-pytriton carries it: the server and its python backend alone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

ASKS = Path(__file__).with_name("triton_asks.py")
_START_S = 120.0


@dataclass(frozen=True)
class TritonPython:
    """A Python that holds nvidia-pytriton, tritonclient and onnxruntime.

    Attributes:
        executable: of a virtual environment.
        packages: its site-packages.
        version: such as ``3.11``.
    """

    executable: Path
    packages: Path
    version: str

    @classmethod
    def look_into(cls, executable: Path) -> TritonPython:
        told = "[sysconfig.get_path('purelib'), sys.version_info[:2]]"
        code = f"import json, sys, sysconfig; print(json.dumps({told}))"
        done = subprocess.run([executable, "-c", code], capture_output=True, text=True, check=True)
        packages, version = json.loads(done.stdout)
        return cls(executable, Path(packages), ".".join(map(str, version)))

    def run(self, script: Path, *words: str | Path | int, **environment: str) -> str:
        """Returns what a script prints in this Python."""
        done = subprocess.run(
            [self.executable, script, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=os.environ | environment,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout


@dataclass(frozen=True)
class TritonServer:
    """A server that is ready.

    Attributes:
        python: that its models run in.
        http: port on loopback.
        grpc: port on loopback.
        log: file.
    """

    python: TritonPython
    http: int
    grpc: int
    log: Path

    def ask(self, *words: str | Path) -> str:
        """Runs ``triton_asks.py`` against this server."""
        return self.python.run(ASKS, words[0], f"127.0.0.1:{self.http}", f"127.0.0.1:{self.grpc}", *words[1:])


@contextmanager
def started(python: TritonPython, repository: Path, folder: Path) -> Iterator[TritonServer]:
    """Yields a server on a repository, without a GPU; it is gone afterwards.

    Args:
        python: that its models run in.
        repository: the model repository.
        folder: for its backend, which must lie beside the stub of this Python, and its log.
    """
    home = python.packages / "pytriton" / "tritonserver"
    backends = folder / "backends"
    shutil.copytree(home / "backends", backends, ignore=shutil.ignore_patterns("__pycache__"))
    stub = home / "python_backend_stubs" / python.version / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    http, grpc = _free_ports(2)
    log = folder / "server.log"
    command: Sequence[str | Path] = (
        home / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        "--http-address=127.0.0.1",
        f"--http-port={http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
        "--disable-auto-complete-config",  # what the configuration says must be enough
        f"--backend-config=python,shm-region-prefix-name=edgeemo{os.getpid()}",
    )
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(python.packages / "nvidia_pytriton.libs"),
        "PATH": f"{python.executable.parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    with (
        log.open("w") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT) as server,
    ):
        try:
            _wait_until_ready(server, http, log)
            yield TritonServer(python, http, grpc, log)
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"not ready in {_START_S:g} s: {log.read_text()[-3000:]}")


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()
