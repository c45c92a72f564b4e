"""Stems and engines of a bundle, opened: the one immutable thing that a session swaps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from edgeemo.bundle import Bundle, FileEntry, Manifest
from edgeemo.bundle.hold import HeldFiles
from edgeemo.errors import BundleError
from edgeemo.runtimes.base import Runner

log = logging.getLogger(__name__)

Opened = TypeVar("Opened")
Files = Mapping[str, tuple[str, FileEntry]]
"""Variant -> file, size and hash."""

STEM = "stem."
_ATTEMPTS = 3  # a writer may commit twice while we open


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A bundle with those of its stems and engines that are open on this machine.

    A stem is called ``stem.<modality>``, an engine by its subset, as `Runner.engine` has it.

    Attributes:
        bundle: this state of it.
        subsets: the subsets that may be served, single modalities first; not all of them are open.
        stems: modality -> the runner that serves.
        engines: subset -> the runner that serves.
        held: the files, which nobody deletes while the snapshot is open.
        standby: stem or engine -> other runners of it that are open, the next best first.
    """

    bundle: Bundle
    subsets: tuple[str, ...]
    stems: Mapping[str, Runner]
    engines: Mapping[str, Runner]
    held: HeldFiles
    standby: Mapping[str, tuple[Runner, ...]] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self.bundle.manifest

    @property
    def manifest_sha256(self) -> str:
        """The identity of this state of the bundle."""
        return self.bundle.manifest_sha256

    @property
    def names(self) -> tuple[str, ...]:
        """All stems and engines that may be served, open or not."""
        used = {modality for subset in self.subsets for modality in subset.split("+")}
        return (*(STEM + name for name in self.manifest.order if name in used), *self.subsets)

    def runner(self, name: str) -> Runner | None:
        """Returns what serves as a stem or engine; None where it is not open."""
        return self.stems.get(name[len(STEM) :]) if name.startswith(STEM) else self.engines.get(name)

    def files(self, name: str) -> Files:
        """Returns the files of a stem or engine; empty where the bundle has none of that name."""
        return files_of(self.manifest, name)

    def same_files(self, name: str, other: Snapshot) -> bool:
        """Tells whether a stem or engine has the same files in another snapshot."""
        return bool(self.files(name)) and self.files(name) == other.files(name)

    def runners(self) -> tuple[Runner, ...]:
        """Returns everything that is open."""
        waiting = (runner for runners in self.standby.values() for runner in runners)
        return (*self.stems.values(), *self.engines.values(), *waiting)

    def having(self, name: str, runners: tuple[Runner, ...]) -> Snapshot:
        """Returns a snapshot in which the first of `runners` serves and the others stand by."""
        serving = {STEM + modality: runner for modality, runner in self.stems.items()} | dict(self.engines)
        serving.pop(name, None)
        if runners:
            serving[name] = runners[0]
        waiting = {key: value for key, value in self.standby.items() if key != name}
        if runners[1:]:
            waiting[name] = runners[1:]
        ordered = {key: serving[key] for key in self.names if key in serving}
        return replace(
            self,
            stems=MappingProxyType({k[len(STEM) :]: r for k, r in ordered.items() if k.startswith(STEM)}),
            engines=MappingProxyType({k: r for k, r in ordered.items() if not k.startswith(STEM)}),
            standby=MappingProxyType(waiting),
        )

    def of(self, name: str) -> tuple[Runner, ...]:
        """Returns the open runners of a stem or engine: what serves, then what stands by."""
        serving = self.runner(name)
        return () if serving is None else (serving, *self.standby.get(name, ()))

    def close(self, *, but: Snapshot | None = None) -> None:
        """Closes every runner but those of another snapshot; nothing happens the second time."""
        for runner in self.only_here(but):
            runner.close()
        self.held.close()

    def only_here(self, other: Snapshot | None) -> Iterator[Runner]:
        """Yields the open runners that another snapshot does not have."""
        others = () if other is None else other.runners()
        return (runner for runner in self.runners() if not any(runner is one for one in others))


def files_of(manifest: Manifest, name: str) -> Files:
    """Returns the files of a stem or engine; empty where a bundle has none of that name."""
    stem = name.startswith(STEM)
    found = manifest.stems.get(name[len(STEM) :]) if stem else manifest.engines.get(name)
    return {variant: (file, manifest.files[file]) for variant, file in (found or {}).items()}


def open_newest(folder: Path, open_it: Callable[[Bundle], Opened]) -> Opened:
    """Opens what lies in a folder now, and again where a writer replaced it in the meantime.

    Args:
        folder: of the bundle.
        open_it: opens a state of it; raises BundleError where its files are gone.

    Raises:
        BundleError: there is no bundle, or a broken one.
    """
    attempts = _ATTEMPTS
    while True:
        attempts -= 1
        bundle = Bundle.open(folder)
        try:
            return open_it(bundle)
        except BundleError:
            if not attempts or Bundle.open(folder).manifest_sha256 == bundle.manifest_sha256:
                raise
