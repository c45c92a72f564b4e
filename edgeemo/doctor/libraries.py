"""Which libraries are installed, and which of them stand in each other's way."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from importlib import metadata

from edgeemo.doctor.report import Finding, Severity

WHEELS = (
    "edgeemo",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnx",
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "sounddevice",
    "av",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-python",
    "cuda-bindings",
    "pycuda",
    "torch",
)
"""What edgeemo may use, by the names under which pip knows them."""

MODULES = {"tensorrt": "tensorrt", "opencv-python": "cv2", "pycuda": "pycuda"}
"""What a system such as JetPack installs without pip's knowledge: wheel -> module."""

Versions = Mapping[str, str]


def installed_versions(version_of: Callable[[str], str] = metadata.version) -> dict[str, str]:
    """Returns wheel -> version of what is installed, in the order of `WHEELS`.

    Nothing is imported. What pip does not know but Python would find (JetPack's TensorRT and OpenCV) is
    ``"from the system"``.

    Args:
        version_of: returns a wheel's version, or raises PackageNotFoundError.
    """
    versions = {}
    for wheel in WHEELS:
        try:
            versions[wheel] = version_of(wheel)
        except metadata.PackageNotFoundError:
            continue
    if not any(wheel.startswith("opencv") for wheel in versions) and _found("cv2"):
        versions["opencv-python"] = "from the system"
    for wheel in ("tensorrt", "pycuda"):
        if wheel not in versions and _found(MODULES[wheel]):
            versions[wheel] = "from the system"
    return versions


def conflicts(versions: Versions) -> list[Finding]:
    """Returns what stands in each other's way among the installed wheels.

    Args:
        versions: as `installed_versions` returns them.
    """
    findings = []
    runtimes = [wheel for wheel in versions if wheel.startswith("onnxruntime")]
    if len(runtimes) > 1:
        findings.append(
            Finding(
                Severity.PROBLEM,
                f"{' and '.join(runtimes)} are installed at once and overwrite each other's files: which "
                "backends work depends on which was installed last",
                f"pip uninstall -y {' '.join(runtimes)}, then install one of them again",
            )
        )
    pictures = [wheel for wheel in versions if wheel.startswith("opencv")]
    if len(pictures) > 1:
        findings.append(
            Finding(
                Severity.PROBLEM,
                f"{' and '.join(pictures)} are installed at once and overwrite each other's files",
                f"pip uninstall -y {' '.join(pictures)}, then install one of them again",
            )
        )
    if not runtimes:
        findings.append(
            Finding(
                Severity.PROBLEM,
                "onnxruntime is not installed: no engine runs on the CPU",
                "pip install 'edgeemo[cpu]'",
            )
        )
    return findings


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
