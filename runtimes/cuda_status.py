"""What a CUDA status means, in words: its name, what happened and what usually helps."""

from __future__ import annotations

from edgeemo.errors import BackendError

HINTS = {
    "CUDA_ERROR_NO_DEVICE": (
        "the driver sees no GPU. Check `nvidia-smi`; in a container start it with --gpus all (on a Jetson "
        "--runtime nvidia); CUDA_VISIBLE_DEVICES may hide it"
    ),
    "CUDA_ERROR_OUT_OF_MEMORY": (
        "the GPU's memory is full. Close other programs that use it, serve fewer subsets, or use "
        "backend='cpu'"
    ),
    "CUDA_ERROR_DEVICE_UNAVAILABLE": (
        "another process has the GPU for itself (compute mode exclusive). End it, or reset the mode with "
        "`nvidia-smi -c DEFAULT`"
    ),
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": (
        "the driver's kernel module and libcuda are of different versions. Restart the machine after a "
        "driver update"
    ),
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": (
        "this GPU does not take the forward-compatible driver library. Remove cuda-compat, or update "
        "the driver"
    ),
    "CUDA_ERROR_STUB_LIBRARY": (
        "the libcuda that was found is the toolkit's stub. Put the driver's own libcuda.so.1 first in the "
        "library path"
    ),
    "CUDA_ERROR_UNKNOWN": (
        "often the driver after suspend. Reload it (`modprobe -r nvidia_uvm && modprobe nvidia_uvm`) or "
        "restart"
    ),
    "CUDA_ERROR_DEVICE_NOT_LICENSED": "the virtual GPU has no licence",
    "CUDA_ERROR_ECC_UNCORRECTABLE": "the GPU's memory has failed; restart, and replace it if that repeats",
    "CUDA_ERROR_INVALID_DEVICE": "there is no GPU of this number",
}
LOST = frozenset(
    {
        "CUDA_ERROR_DEINITIALIZED",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "CUDA_ERROR_HARDWARE_STACK_ERROR",
        "CUDA_ERROR_ILLEGAL_ADDRESS",
        "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        "CUDA_ERROR_LAUNCH_FAILED",
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        "CUDA_ERROR_MISALIGNED_ADDRESS",
    }
)
"""Statuses after which this process can use the GPU no more."""
_NAMES = {  # what cuGetErrorString says of these, since pycuda gives no more than that
    "no CUDA-capable device is detected": "CUDA_ERROR_NO_DEVICE",
    "no device": "CUDA_ERROR_NO_DEVICE",
    "out of memory": "CUDA_ERROR_OUT_OF_MEMORY",
    "invalid argument": "CUDA_ERROR_INVALID_VALUE",
    "invalid device ordinal": "CUDA_ERROR_INVALID_DEVICE",
    "invalid device context": "CUDA_ERROR_INVALID_CONTEXT",
    "an illegal memory access was encountered": "CUDA_ERROR_ILLEGAL_ADDRESS",
    "unspecified launch failure": "CUDA_ERROR_LAUNCH_FAILED",
    "unknown error": "CUDA_ERROR_UNKNOWN",
    "CUDA-capable device(s) is/are busy or unavailable": "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "system has unsupported display driver / cuda driver combination": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
}


def cuda_error(call: str, status: str) -> BackendError:
    """Returns the error for a status that is not CUDA_SUCCESS.

    Args:
        call: the driver's function, such as ``cuMemAlloc``.
        status: its name, such as ``CUDA_ERROR_OUT_OF_MEMORY``.
    """
    hint = HINTS.get(status, "")
    if not hint and status in LOST:
        hint = "the GPU is lost to this process. The program has to be restarted to use it again"
    return BackendError(f"{call} failed: {status}{': ' if hint else ''}{hint}")


def missing_driver(why: str) -> BackendError:
    """Returns the error where there is no driver library, or one without a function that is needed.

    Args:
        why: what the loader said.
    """
    return BackendError(
        f"no usable NVIDIA driver here ({why}). Without one CUDA reports error 35, 'driver version is "
        "insufficient'. Install or update the driver; in a container start it with --gpus all (on a Jetson "
        "--runtime nvidia); or use backend='cpu'"
    )


def status_from_text(text: str) -> str:
    """Returns the name of the status that the driver describes so; the text itself where it is not known."""
    return _NAMES.get(text.partition(" - ")[0], text)
