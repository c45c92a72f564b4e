"""What serving needs beside edgeemo, looked for before anything is opened."""

from __future__ import annotations

from importlib.util import find_spec

from edgeemo.errors import MissingDependencyError

_NEEDED = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "websockets": "websockets",
    "prometheus_client": "prometheus-client",
}


def require_packages() -> None:
    """Raises MissingDependencyError where a package of the extra ``serve`` is not installed."""
    for module, package in _NEEDED.items():
        if find_spec(module) is None:
            raise MissingDependencyError("the live page", package, "pip install 'edgeemo[serve]'") from None
