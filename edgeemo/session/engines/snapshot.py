"""All engines of a bundle, opened: the one immutable thing that a session swaps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from edgeemo.bundle import Bundle, FileEntry, Licence, Manifest
from edgeemo.bundle.hold import HeldFiles
from edgeemo.errors import BundleError, SubsetError
from edgeemo.modality import parse_subset, subset_members
from edgeemo.runtimes.base import Runner, VariantChoice
from edgeemo.runtimes.open import AUTO, open_engine, open_stem

log = logging.getLogger(__name__)

Opened = TypeVar("Opened")
_ATTEMPTS = 3  # a writer may commit twice while we open

_said: set[str] = set()  # models whose licence this process has been told of


@dataclass(frozen=True)
class EngineOptions:
    """Which engines a session opens, and how.

    Attributes:
        subsets: the subsets that may be served; None for all in the bundle.
        variant: ``"fp32"``, ``"int8"``, or ``"auto"`` for the fastest here, as measured.
        backend: ``"cpu"``, or ``"auto"`` for the best that works here.
        threads: threads of each engine.
    """

    subsets: tuple[str, ...] | None = None
    variant: str = "auto"
    backend: str = "auto"
    threads: int = 1


@dataclass(frozen=True)
class Snapshot:
    """A manifest with its stems and engines, opened on this machine.

    Attributes:
        manifest: what the bundle says about itself.
        manifest_sha256: the identity of this state of the bundle.
        stems: modality -> runner.
        engines: subset -> runner, single modalities first.
        held: the files, which nobody deletes while the snapshot is open.
    """

    manifest: Manifest
    manifest_sha256: str
    stems: Mapping[str, Runner]
    engines: Mapping[str, Runner]
    held: HeldFiles

    def runners(self) -> tuple[Runner, ...]:
        """Returns everything that is open."""
        return (*self.stems.values(), *self.engines.values())

    def close(self, *, but: Snapshot | None = None) -> None:
        """Closes every runner but those of another snapshot; nothing happens the second time."""
        others = () if but is None else but.runners()
        for runner in self.runners():
            if not any(runner is other for other in others):
                runner.close()
        self.held.close()


def open_snapshot(bundle: Bundle, options: EngineOptions, *, instead_of: Snapshot | None = None) -> Snapshot:
    """Opens the stems and engines of a bundle; if one cannot be opened, none stays open.

    Args:
        bundle: what to open.
        options: which engines, and how.
        instead_of: the snapshot in use. What has the same files in both is taken over open, and a new
            engine runs in the variant that the old one runs in, where it has that.

    Raises:
        SubsetError: a subset that the bundle has no engine for; the message lists those it has.
        BundleError: a file is missing, truncated or tampered with.
        BackendError: an engine cannot be opened.
        MissingDependencyError: no backend is installed.
    """
    manifest = bundle.manifest
    wanted = list(manifest.engines)
    if options.subsets == ():
        raise SubsetError(f"no subset to serve; this bundle has: {', '.join(manifest.engines)}")
    if options.subsets is not None:
        wanted = [parse_subset(subset, manifest.order) for subset in options.subsets]
        missing = [subset for subset in wanted if subset not in manifest.engines]
        if missing:
            raise SubsetError(
                f"no engine for {', '.join(missing)} in this bundle; it has: {', '.join(manifest.engines)}"
            )
    used = {modality for subset in wanted for modality in subset_members(subset)}
    old = instead_of
    stems: dict[str, Runner] = {}
    engines: dict[str, Runner] = {}
    with ExitStack() as opened:
        held = opened.enter_context(HeldFiles(bundle.path, manifest.files))
        for name in (name for name in manifest.order if name in used):
            before = _entries(old.manifest, old.manifest.stems.get(name)) if old else {}
            part = _Part(name, open_stem, _entries(manifest, manifest.stems[name]), before)
            stems[name] = _open_part(part, bundle, options, old.stems.get(name) if old else None, opened)
        for subset in wanted:
            before = _entries(old.manifest, old.manifest.engines.get(subset)) if old else {}
            part = _Part(subset, open_engine, _entries(manifest, manifest.engines[subset]), before)
            engines[subset] = _open_part(
                part, bundle, options, old.engines.get(subset) if old else None, opened
            )
        opened.pop_all()
    _say_licence(manifest.model_id, manifest.licence)
    return Snapshot(
        manifest, bundle.manifest_sha256, MappingProxyType(stems), MappingProxyType(engines), held
    )


_Entries = dict[str, tuple[str, FileEntry]]  # variant -> (file, size and hash)


@dataclass(frozen=True)
class _Part:
    """A stem or engine: what opens it, its files in the bundle, and those in the bundle in use."""

    name: str
    how: Callable[..., Runner]
    files: _Entries
    before: _Entries


def _entries(manifest: Manifest, variants: Mapping[str, str] | None) -> _Entries:
    return {variant: (file, manifest.files[file]) for variant, file in (variants or {}).items()}


def _open_part(
    part: _Part, bundle: Bundle, options: EngineOptions, running: Runner | None, opened: ExitStack
) -> Runner:
    """Opens one stem or engine, or takes over the one that runs where its files are the same."""
    if running is not None and part.files == part.before:
        return running
    keep = running is not None and options.variant == AUTO and running.variant in part.files
    variant = running.variant if running is not None and keep else options.variant
    runner = part.how(bundle, part.name, variant=variant, backend=options.backend, threads=options.threads)
    opened.callback(runner.close)
    if running is not None and keep:
        measured = running.choice.medians_ms if running.choice else ()
        runner.choice = VariantChoice(runner.engine, runner.variant, measured, "kept")
    return runner


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


def _say_licence(model_id: str, licence: Licence) -> None:
    """Says the notice of a non-commercial licence once in a process."""
    if licence.non_commercial and model_id not in _said:
        _said.add(model_id)
        log.warning("%s (weights: %s)", licence.notice, licence.weights)
