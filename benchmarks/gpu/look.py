"""What one interpreter finds here: whether a backend can be used, and with which libraries."""

from __future__ import annotations

from benchmarks.gpu.child import Found, without_places
from edgeemo.doctor.libraries import installed_versions
from edgeemo.runtimes.backends import backend_named


def measure(bundle: str, backend: str) -> Found:
    """Returns why a backend cannot be used here, empty where it can, and what is installed beside it."""
    return {"why_not": without_places(backend_named(backend).why_not()), "libraries": installed_versions()}
