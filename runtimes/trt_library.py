"""The two TensorRT libraries, which have one Python API: full TensorRT and TensorRT for RTX."""

from __future__ import annotations

import importlib
import logging
import threading
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from edgeemo.errors import BackendError, InputError, MissingDependencyError

log = logging.getLogger(__name__)

TENSORRT, RTX = "tensorrt", "rtx"
FLAVOURS = {TENSORRT: "tensorrt", RTX: "tensorrt_rtx"}
"""Backend -> Python module."""
TITLES = {TENSORRT: "TensorRT", RTX: "TensorRT for RTX"}
OLDEST = {TENSORRT: (10, 3), RTX: (1, 1)}
RTX_OLDEST_CAPABILITY = (7, 5)
_COMMANDS = {
    TENSORRT: "pip install 'edgeemo[tensorrt]' (on a Jetson it comes with JetPack: make the virtual "
    "environment with --system-site-packages)",
    RTX: "pip install 'edgeemo[rtx]'",
}


@dataclass(frozen=True)
class Library:
    """A TensorRT that was loaded.

    Attributes:
        flavour: ``tensorrt`` or ``rtx``.
        module: its Python module.
        version: in full, such as ``1.7.1.116``: plans fit no other.
        logger: what it talks to; see `Words`.
    """

    flavour: str
    module: Any
    version: str
    logger: Any

    def __repr__(self) -> str:
        return f"<{TITLES[self.flavour]} {self.version}>"


def is_installed(flavour: str) -> bool:
    """Tells whether a flavour's module is there, without importing it."""
    return find_spec(FLAVOURS[flavour]) is not None


@lru_cache(maxsize=2)
def load_library(flavour: str) -> Library:
    """Returns a TensorRT, imported on first use.

    Args:
        flavour: ``tensorrt`` or ``rtx``.

    Raises:
        InputError: there is no such flavour.
        MissingDependencyError: it is not installed.
        BackendError: it is installed and cannot be loaded, or is too old.
    """
    if flavour not in FLAVOURS:
        raise InputError(f"unknown TensorRT {flavour!r}; choose one of: {', '.join(FLAVOURS)}")
    title = TITLES[flavour]
    if not is_installed(flavour):
        raise MissingDependencyError(f"building or running {title} plans", title, _COMMANDS[flavour])
    try:
        module = importlib.import_module(FLAVOURS[flavour])
        version = str(module.__version__)
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        raise BackendError(
            f"{title} is installed and cannot be loaded: {error}. Its Python package and its libraries must "
            "be of one version, and of the CUDA that the driver serves"
        ) from None
    if _numbers(version) < OLDEST[flavour]:
        oldest = ".".join(map(str, OLDEST[flavour]))
        raise BackendError(f"{title} {version} is too old; edgeemo needs {oldest} or newer")
    return Library(flavour, module, version, _make_logger(module))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


class Words:
    """What TensorRT said of errors since `take` was last called, from whichever of its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: list[str] = []

    def add(self, message: str) -> None:
        """Keeps an error; the oldest go first where there are many."""
        with self._lock:
            self._said.append(" ".join(message.split()))
            del self._said[:-8]

    def take(self) -> str:
        """Returns the errors in one line, each once, and forgets them."""
        with self._lock:
            said, self._said = self._said, []
        return "; ".join(dict.fromkeys(said))


def _make_logger(module: Any) -> Any:
    """Returns a logger that keeps errors for our messages and hands the rest to `logging`."""

    class Logger(module.ILogger):  # type: ignore[misc]  # a class of a package without types
        def __init__(self) -> None:
            super().__init__()
            self.words = Words()

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR):
                self.words.add(message)
            elif severity == module.ILogger.WARNING:
                log.info("%s: %s", module.__name__, message)
            else:
                log.debug("%s: %s", module.__name__, message)

    return Logger()


def explained(words: str) -> str:
    """Returns what TensorRT said, with what usually helps behind it."""
    if "cudaError 35" in words or "cudaError 100" in words:
        return (
            f"CUDA error {35 if 'cudaError 35' in words else 100}: no usable NVIDIA driver here. Install or "
            "update the driver; in a container start it with --gpus all (on a Jetson --runtime nvidia)"
        )
    if "out of memory" in words.lower():
        return f"the GPU's memory is full ({words}). Close other programs that use it or serve fewer subsets"
    if "version" in words.lower() and "mismatch" in words.lower():
        return f"the plan was built by another TensorRT ({words}). Build it again with `edgeemo build`"
    return words or "TensorRT gave no reason"
