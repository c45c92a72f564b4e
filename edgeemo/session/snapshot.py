"""All engines of a bundle, opened: the one immutable thing that a session swaps."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType

from edgeemo.bundle import Bundle, Licence, Manifest
from edgeemo.errors import SubsetError
from edgeemo.modality import parse_subset, subset_members
from edgeemo.runtimes.base import Runner
from edgeemo.runtimes.open import open_engine, open_stem

log = logging.getLogger(__name__)

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
        stems: modality -> runner.
        engines: subset -> runner, single modalities first.
    """

    manifest: Manifest
    stems: Mapping[str, Runner]
    engines: Mapping[str, Runner]

    def close(self) -> None:
        """Closes every runner; nothing happens the second time."""
        for runner in (*self.engines.values(), *self.stems.values()):
            runner.close()


def open_snapshot(bundle: Bundle, options: EngineOptions) -> Snapshot:
    """Opens the stems and engines of a bundle; if one cannot be opened, none stays open.

    Args:
        bundle: what to open.
        options: which engines, and how.

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
    with ExitStack() as opened:
        stems = {}
        for name in (name for name in manifest.order if name in used):
            stems[name] = opened.enter_context(
                open_stem(
                    bundle, name, variant=options.variant, backend=options.backend, threads=options.threads
                )
            )
        engines = {}
        for subset in wanted:
            engines[subset] = opened.enter_context(
                open_engine(
                    bundle, subset, variant=options.variant, backend=options.backend, threads=options.threads
                )
            )
        opened.pop_all()
    _say_licence(manifest.model_id, manifest.licence)
    return Snapshot(manifest, MappingProxyType(stems), MappingProxyType(engines))


def _say_licence(model_id: str, licence: Licence) -> None:
    """Says the notice of a non-commercial licence once in a process."""
    if licence.non_commercial and model_id not in _said:
        _said.add(model_id)
        log.warning("%s (weights: %s)", licence.notice, licence.weights)
