"""What the onnxruntime that is installed can run on, and in words why it cannot."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeemo.errors import EdgeEmoError
from edgeemo.runtimes.cuda import installed_packages
from edgeemo.runtimes.driver import driver_trouble
from edgeemo.runtimes.gpu import gpu_facts
from edgeemo.runtimes.ort import load_onnxruntime

log = logging.getLogger(__name__)
CUDA, ORT_TENSORRT, OPENVINO = "cuda", "ort-tensorrt", "openvino"
PROVIDERS = {
    CUDA: "CUDAExecutionProvider",
    ORT_TENSORRT: "TensorrtExecutionProvider",
    OPENVINO: "OpenVINOExecutionProvider",
}
"""Backend -> onnxruntime's execution provider."""
_PLUGINS = {CUDA: "cuda", ORT_TENSORRT: "tensorrt"}
_EXTRAS = {
    CUDA: "pip uninstall onnxruntime, then pip install 'edgeemo[gpu]'",
    ORT_TENSORRT: "pip uninstall onnxruntime, then pip install 'edgeemo[gpu]'",
    OPENVINO: "pip uninstall onnxruntime, then pip install onnxruntime-openvino",
}

_FLAVOURS = ("gpu", "openvino", "directml", "qnn", "rocm", "migraphx", "training", "cann", "silicon")
_WHEELS = ("onnxruntime", *(f"onnxruntime-{flavour}" for flavour in _FLAVOURS))


def installed_wheels() -> dict[str, str]:
    """Returns the packages that bring a module ``onnxruntime``, with their versions.

    There must be one: they write the same files, and what was installed last has half replaced the other.
    """
    # By name: to read what every installed package says of itself would take a tenth of a second.
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for name in _WHEELS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def wheels_trouble() -> str:
    """Returns what is wrong where several of these packages are installed at once; empty where not."""
    wheels = installed_wheels()
    if len(wheels) < 2:
        return ""
    listed = " and ".join(f"{name} {version}" for name, version in sorted(wheels.items()))
    names = " ".join(sorted(wheels))
    return (
        f"{listed} are installed at once and overwrite each other's files; keep one: pip uninstall {names}, "
        "then install the one that this machine needs"
    )


@lru_cache(maxsize=4)
def provider_trouble(backend: str) -> str:
    """Returns why a provider of onnxruntime cannot be used here; empty where it may work.

    Args:
        backend: a key of `PROVIDERS`.
    """
    if find_spec("onnxruntime") is None:
        return f"onnxruntime is not installed: {_EXTRAS[backend].partition('then ')[2]}"
    try:
        ort = load_onnxruntime()
    except EdgeEmoError as error:
        return str(error)
    provider = PROVIDERS[backend]
    if provider not in ort.get_available_providers():
        wheels = installed_wheels()
        have = ", ".join(f"{name} {version}" for name, version in wheels.items()) or ort.__version__
        return wheels_trouble() or f"{have} has no {provider}: {_EXTRAS[backend]}"
    return _plugin_trouble(ort, backend) if backend in _PLUGINS else ""


def _plugin_trouble(ort: Any, backend: str) -> str:
    """Returns what a provider that needs a GPU lacks."""
    if trouble := driver_trouble(ours=False):
        return trouble
    built = str(getattr(ort, "cuda_version", "") or "")  # "13.0"; any driver of the same major version serves
    served = gpu_facts().driver if installed_packages() else ""
    if built and served and int(served.split(".")[0]) < int(built.split(".", maxsplit=1)[0]):
        return (
            f"the driver serves CUDA {served} at most and onnxruntime {ort.__version__} is made for CUDA "
            f"{built}: update the driver, or install an onnxruntime-gpu for the older CUDA"
        )
    library = _missing_library(ort, _PLUGINS[backend])
    if not library:
        return ""
    needs = f"CUDA {built or '12'} and cuDNN 9"
    if backend == ORT_TENSORRT:
        needs += " and TensorRT"
    return (
        f"onnxruntime {ort.__version__} needs {needs} and finds no {library}: pip install "
        "'onnxruntime-gpu[cuda,cudnn]', or put the CUDA libraries into the library path"
    )


def _missing_library(ort: Any, plugin: str) -> str:
    """Returns the library that a provider's own library waits for in vain; empty where none is missing.

    onnxruntime itself only prints this and falls back to the CPU.
    """
    folder = Path(ort.__file__).parent / "capi"
    if hasattr(ort, "preload_dlls"):  # finds CUDA and cuDNN where pip has put them
        with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(Exception):
            ort.preload_dlls()
        log.debug("onnxruntime.preload_dlls: %s", said.getvalue())
    if sys.platform == "win32":
        names = ["onnxruntime_providers_shared.dll", f"onnxruntime_providers_{plugin}.dll"]
    else:
        names = ["libonnxruntime_providers_shared.so", f"libonnxruntime_providers_{plugin}.so"]
    for name in names:
        try:
            ctypes.CDLL(str(folder / name), mode=getattr(os, "RTLD_GLOBAL", 0) | getattr(os, "RTLD_LAZY", 0))
        except OSError as error:
            if "undefined symbol" not in str(error):  # those are onnxruntime's own, there once it loads this
                return str(error).partition(":")[0] if ": cannot open" in str(error) else str(error)
    return ""
