"""Whether an NVIDIA driver is here: asked first, as it costs nothing and explains most of what fails."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

from edgeemo.errors import BackendError, InputError, MissingDependencyError
from edgeemo.runtimes.cuda import installed_packages
from edgeemo.runtimes.gpu import gpu_facts

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@lru_cache(maxsize=2)
def driver_trouble(*, ours: bool) -> str:
    """Returns why no GPU can be used here; empty where one can.

    Args:
        ours: whether we ourselves have to speak to the driver, which takes pycuda or cuda-python.
    """
    try:
        ctypes.CDLL(LIBRARY)
    except OSError as error:
        return f"no NVIDIA driver here ({error}; CUDA reports it as error 35)"
    try:
        if ours or installed_packages():
            gpu_facts()
    except (BackendError, MissingDependencyError, InputError) as error:
        return str(error)
    return ""
