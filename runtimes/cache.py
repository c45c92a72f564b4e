"""The user's cache folder: small facts measured on this machine, each in a file of its own."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

FORMAT_VERSION = 1


def cache_folder() -> Path:
    """Returns the folder for what was measured or built here; it may not exist yet.

    ``EDGEEMO_CACHE`` where it is set; else ``edgeemo`` in the system's own place for such files:
    ``XDG_CACHE_HOME`` or ``~/.cache`` on Linux, ``LOCALAPPDATA`` on Windows, ``~/Library/Caches`` on macOS.
    """
    if chosen := os.environ.get("EDGEEMO_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edgeemo"


def fact_path(kind: str, key: Mapping[str, Any]) -> Path:
    """Returns where the fact of this kind and key lies: one file a key, so that writers never meet."""
    canonical = json.dumps(key, sort_keys=True, separators=(",", ":"))
    return cache_folder() / kind / f"{hashlib.sha256(canonical.encode()).hexdigest()[:32]}.json"


def read_fact(kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what `write_fact` stored under this key, or None where there is nothing usable.

    A file that cannot be read, is not JSON or holds another key counts as nothing: said at INFO.
    """
    try:
        path = fact_path(kind, key)
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: there is no home folder
        log.info("cached %s cannot be read and will be made again: %s", kind, error)
        return None
    if not isinstance(stored, dict) or stored.get("format_version") != FORMAT_VERSION:
        log.info("cached %s in %s is of another format and will be made again", kind, path)
        return None
    value = stored.get("value")
    if stored.get("key") != dict(key) or not isinstance(value, dict):
        log.info("cached %s in %s belongs to something else and will be made again", kind, path)
        return None
    return value


def write_fact(kind: str, key: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Stores a small JSON value under a key; returns whether that worked.

    The file appears whole or not at all, whoever else writes it at the same time. A folder that cannot be
    written costs only the next measurement: said at INFO.
    """
    temporary = ""
    try:
        path = fact_path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"format_version": FORMAT_VERSION, "key": dict(key), "value": dict(value)}
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-", suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, sort_keys=True)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        log.info("%s cannot be kept and will be made again next time: %s", kind, error)
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        return False
    return True


def clear_facts(kind: str) -> int:
    """Deletes what `write_fact` stored of a kind; returns how many there were."""
    try:
        places = sorted((cache_folder() / kind).glob("*.json"))
    except (OSError, RuntimeError):
        return 0
    deleted = 0
    for place in places:
        try:
            place.unlink()
        except OSError as error:
            log.info("%s cannot be deleted: %s", place, error)
        else:
            deleted += 1
    return deleted
