"""Plans that were built here, or brought along: found by everything they depend on, verified when loaded."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeemo.errors import BackendError
from edgeemo.runtimes.cache import cache_folder
from edgeemo.runtimes.plans.key import PlanKey, key_from_json
from edgeemo.runtimes.plans.lock import PlanLock
from edgeemo.runtimes.plans.sealed import read_header, read_sealed, write_sealed

log = logging.getLogger(__name__)
FOLDER = "plans"
SUFFIX = ".plan"
KERNELS = ".kernels"
LOCK = ".lock"
BROUGHT = "EDGEEMO_PLANS"
"""Environment variable: folders of plans that were built ahead, separated as in ``PATH``."""
LIMIT_MB = 1024.0
WAIT_S = 1800.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class PlanEntry:
    """A plan in a folder.

    Attributes:
        path: its file.
        engine: such as ``audio+video`` or ``stem.audio``.
        key: what it depends on.
        bytes: of the plan.
        built: when, UTC.
        seconds: what the build took.
    """

    path: Path
    engine: str
    key: PlanKey
    bytes: int
    built: str
    seconds: float


@dataclass(frozen=True)
class OpenedPlan:
    """A plan that may be used here.

    Attributes:
        plan: its bytes.
        key: what it was built from, with and for.
        path: where it lies; None where it could not be kept.
        trouble: why not, in words; empty where it was.
        seconds: what building took just now; None where it was found.
    """

    plan: bytes | memoryview
    key: PlanKey
    path: Path | None
    trouble: str = ""
    seconds: float | None = None


class PlanCache:
    """The folder of plans of this user, and folders of plans that were brought along.

    Args:
        folder: where to keep plans; None for the user's cache.
        brought: folders that are only read; None for those of ``EDGEEMO_PLANS``.
        limit_mb: when more than this lies in the cache, the plans used longest ago go.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        brought: Sequence[Path] | None = None,
        limit_mb: float = LIMIT_MB,
    ) -> None:
        self.folder = cache_folder() / FOLDER if folder is None else folder
        if brought is None:
            listed = os.environ.get(BROUGHT, "").split(os.pathsep)
            brought = [Path(part) for part in listed if part]
        self.brought = tuple(brought)
        self.limit_bytes = limit_mb * 1e6

    def find(self, wanted: PlanKey, *, any_options: bool = False) -> tuple[OpenedPlan | None, str]:
        """Returns a plan for this key, verified, and why others of the same engine were rejected.

        Damaged plans of the cache are deleted, so that the next build replaces them.

        Args:
            wanted: the key.
            any_options: whether plans with another workspace, accelerator or effort will do too, where there
                is none with those wanted.
        """
        reasons: list[str] = []
        for place in self._candidates(wanted):
            try:
                key = key_from_json(read_header(place).get("key"))
                if key.engine_sha256 != wanted.engine_sha256 or key.precision != wanted.precision:
                    continue
                if misfit := key.misfit(wanted, any_options=any_options):
                    reasons.append(misfit)
                    continue
                _, plan = read_sealed(place)
            except BackendError as error:
                reasons.append(str(error))
                if place.parent == self.folder:
                    log.info("%s; it is deleted and will be built again", error)
                    _delete(place)
                continue
            with suppress(OSError):  # only for the order in which plans go
                os.utime(place)
            return OpenedPlan(plan, key, place), ""
        return None, "; ".join(dict.fromkeys(reasons))

    def find_or_build(
        self,
        wanted: PlanKey,
        engine: str,
        build: Callable[[], tuple[bytes, float]],
        *,
        wait_s: float = WAIT_S,
        stop: threading.Event | None = None,
    ) -> OpenedPlan:
        """Returns the plan of this key, built and kept where there is none.

        Of several processes that want the same one, one builds; the others wait and then load it, or build
        it in turn where the first one failed or was killed. A folder that cannot be written costs only the
        next build: the plan is used and ``trouble`` says why it was not kept.

        Args:
            wanted: the key.
            engine: its name.
            build: makes the plan; returns its bytes and the seconds that took.
            wait_s: how long to wait for another builder.
            stop: ends the waiting.

        Raises:
            BackendError: whatever ``build`` raises; or another builder does not finish.
        """
        found, _ = self.find(wanted)
        if found is not None:
            return found
        place = self.path_of(wanted, engine)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = PlanLock(place.with_suffix(LOCK)).acquire(wait_s, stop)
        except OSError as error:
            trouble = _in_words(self.folder, error)
            log.warning("%s", trouble)
            plan, seconds = build()
            return OpenedPlan(plan, wanted, None, trouble, seconds)
        with lock:
            found, _ = self.find(wanted)
            if found is not None:
                return found
            plan, seconds = build()
            try:
                self.keep(place, wanted, engine, plan, seconds)
            except OSError as error:
                trouble = _in_words(self.folder, error)
                log.warning("%s", trouble)
                return OpenedPlan(plan, wanted, None, trouble, seconds)
            # Whoever still waits for this very file, or makes a new one, finds the plan before it builds.
            with suppress(OSError):
                place.with_suffix(LOCK).unlink()
        self.shrink(spare=place)
        return OpenedPlan(plan, wanted, place, "", seconds)

    def path_of(self, key: PlanKey, engine: str) -> Path:
        """Returns where the plan of an engine with this key lies in the cache."""
        return self.folder / f"{engine}.{key.precision}.{key.flavour}.{key.digest[:16]}{SUFFIX}"

    def keep(self, place: Path, key: PlanKey, engine: str, plan: bytes, seconds: float) -> None:
        """Writes a plan, whole or not at all.

        Raises:
            OSError: the disk refuses.
        """
        header = {
            "key": asdict(key),
            "engine": engine,
            "seconds": round(seconds, 3),
            "built": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        write_sealed(place, header, plan)

    def entries(self) -> tuple[PlanEntry, ...]:
        """Returns the plans of the cache, used last first; what cannot be read is left out."""
        found = []
        for place in sorted(_files(self.folder, SUFFIX), key=_used, reverse=True):
            with suppress(BackendError):
                found.append(_entry(place))
        return tuple(found)

    def clear(self) -> tuple[int, int]:
        """Deletes everything in the cache that no build is writing; returns plans and bytes deleted."""
        plans = freed = 0
        for place in [
            path for suffix in (SUFFIX, KERNELS, ".tmp", ".timing") for path in _files(self.folder, suffix)
        ]:
            size = _size(place)
            if _delete(place):
                plans += place.suffix == SUFFIX
                freed += size
        return plans, freed

    def total_bytes(self) -> int:
        """Returns the size of the cache."""
        return sum(_size(place) for place in (*_files(self.folder, SUFFIX), *_files(self.folder, KERNELS)))

    def shrink(self, *, spare: Path) -> None:
        """Deletes the plans used longest ago until the rest is within the limit.

        Args:
            spare: a plan that stays in any case.
        """
        total = self.total_bytes()
        for place in sorted(_files(self.folder, SUFFIX), key=_used):
            if total <= self.limit_bytes:
                return
            if place != spare:
                belongings = [place, *self.folder.glob(f"{place.stem}*{KERNELS}")]
                total -= sum(_size(path) for path in belongings)
                log.info("%s goes: the cache holds more than %.0f MB", place.name, self.limit_bytes / 1e6)
                for path in belongings:
                    _delete(path)

    def _candidates(self, wanted: PlanKey) -> list[Path]:
        ending = f"{wanted.digest[:16]}{SUFFIX}"
        found = [path for folder in (self.folder, *self.brought) for path in _files(folder, SUFFIX)]
        return sorted(found, key=lambda path: not path.name.endswith(ending))  # a hit is the first one read


def _entry(place: Path) -> PlanEntry:
    header: dict[str, Any] = read_header(place)
    return PlanEntry(
        place,
        str(header.get("engine", "")),
        key_from_json(header.get("key")),
        int(header["bytes"]),
        str(header.get("built", "")),
        float(header.get("seconds", 0.0)),
    )


def _files(folder: Path, suffix: str) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == suffix and path.is_file())
    except OSError:
        return []


def _used(place: Path) -> float:
    with suppress(OSError):
        return place.stat().st_mtime
    return 0.0


def _size(place: Path) -> int:
    with suppress(OSError):
        return place.stat().st_size
    return 0


def _delete(place: Path) -> bool:
    try:
        place.unlink()
    except OSError as error:
        log.info("%s cannot be deleted: %s", place, error.strerror or error)
        return False
    return True


def _in_words(folder: Path, error: OSError) -> str:
    cause = "no room left on the disk" if error.errno in _FULL else (error.strerror or str(error))
    return (
        f"plans cannot be kept in {folder}: {cause}. They will be built again at every start; make it "
        "writable or set EDGEEMO_CACHE to a folder that is"
    )
