"""Opening a bundle for a session: the stems, and engines as far as the memory budget goes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from types import MappingProxyType

from edgeemo.bundle import Bundle, Licence, Manifest
from edgeemo.bundle.hold import HeldFiles
from edgeemo.errors import SubsetError
from edgeemo.modality import parse_subset, subset_members
from edgeemo.runtimes.base import Runner, VariantChoice
from edgeemo.runtimes.open import AUTO, LOCAL_VARIANTS, open_engine, open_stem, pick_backend
from edgeemo.session.engines.memory import Footprints
from edgeemo.session.engines.options import EngineOptions
from edgeemo.session.engines.snapshot import STEM, Files, Snapshot, files_of

log = logging.getLogger(__name__)

_said: set[str] = set()  # models whose licence this process has been told of


def open_snapshot(bundle: Bundle, options: EngineOptions, *, instead_of: Snapshot | None = None) -> Snapshot:
    """Opens the stems of a bundle and the engines that fit the budget; if one fails, none stays open.

    Args:
        bundle: what to open.
        options: which engines, and how.
        instead_of: the snapshot in use. What has the same files in both is taken over as it is, open or
            not, and a new engine runs in the variant that the old one runs in, where it has that.

    Raises:
        SubsetError: a subset that the bundle has no engine for; the message lists those it has.
        BundleError: a file is missing, truncated or tampered with.
        BackendError: an engine cannot be opened.
        MissingDependencyError: no backend is installed.
    """
    subsets = _wanted(bundle.manifest, options)
    with ExitStack() as opened:
        held = opened.enter_context(HeldFiles(bundle.path, bundle.manifest.files))
        empty: dict[str, Runner] = {}
        snapshot = Snapshot(bundle, subsets, MappingProxyType(empty), MappingProxyType(empty), held)
        stems = [name for name in snapshot.names if name.startswith(STEM)]
        footprints, used = Footprints(), 0
        bounded = options.memory_budget_mb is not None
        cold: list[str] = []

        def room(name: str, snapshot: Snapshot, used: int) -> bool:
            return used + likely_size_of(footprints, snapshot, name, options) <= options.memory_budget_bytes

        for name in (*stems, *preload_order(subsets)):
            taken_over = instead_of is not None and snapshot.same_files(name, instead_of)
            if instead_of is not None and taken_over:
                snapshot = snapshot.having(name, instead_of.of(name))
            elif bounded and snapshot.engines and not room(name, snapshot, used):
                cold.append(name)
                continue
            else:
                running = None if instead_of is None else instead_of.runner(name)
                runner = open_part(bundle, name, options, instead_of=running)
                opened.callback(runner.close)
                snapshot = snapshot.having(name, (runner,))
            if bounded:
                used += sum(size_of(footprints, bundle, runner) for runner in snapshot.of(name))
        opened.pop_all()
    if cold or used > options.memory_budget_bytes:
        _say_budget(options, used, cold)
    _say_licence(bundle.manifest.model_id, bundle.manifest.licence)
    return snapshot


def preload_order(subsets: Sequence[str]) -> tuple[str, ...]:
    """Returns subsets in the order in which they are opened: singles, the largest, then the smaller ones.

    With the singles open whatever is live is served by something; with the largest, the usual case is
    served best.
    """
    sizes = {subset: len(subset_members(subset)) for subset in subsets}
    largest = max(sizes.values())
    rank = {size: 0 if size == 1 else 1 if size == largest else 2 for size in sizes.values()}
    return tuple(sorted(subsets, key=lambda subset: (rank[sizes[subset]], -sizes[subset])))


def open_part(
    bundle: Bundle,
    name: str,
    options: EngineOptions,
    *,
    instead_of: Runner | None = None,
    place: tuple[str, str] | None = None,
) -> Runner:
    """Opens a stem or engine.

    Args:
        bundle: where it lies.
        name: a subset or ``stem.<modality>``.
        options: which variant and backend.
        instead_of: the runner whose place it takes; a variant that was measured for that one stays.
        place: backend and variant, where others than those of the options are wanted.

    Raises:
        BundleError, BackendError, MissingDependencyError: as `open_snapshot`.
    """
    backend, variant = options.backend, options.variant
    keep = (
        instead_of is not None
        and variant == AUTO
        and instead_of.variant in files_of(bundle.manifest, name)
        and instead_of.backend == pick_backend(backend)
    )
    if place is not None:
        backend, variant = place
    elif instead_of is not None and keep:
        variant = instead_of.variant
    how, part = (open_stem, name[len(STEM) :]) if name.startswith(STEM) else (open_engine, name)
    runner = how(bundle, part, variant=variant, backend=backend, threads=options.threads)
    if instead_of is not None and keep and place is None:
        measured = instead_of.choice.medians_ms if instead_of.choice else ()
        runner.choice = VariantChoice(runner.engine, runner.variant, measured, "kept")
    return runner


def size_of(footprints: Footprints, bundle: Bundle, runner: Runner) -> int:
    """Returns the estimated memory of an open runner, in bytes."""
    files: Files = files_of(bundle.manifest, runner.engine)
    found = files.get(runner.variant)
    return 0 if found is None else footprints.estimate_bytes(bundle, found[0], runner.variant)


def likely_size_of(footprints: Footprints, snapshot: Snapshot, name: str, options: EngineOptions) -> int:
    """Returns the estimated memory of an engine that is not open, in bytes.

    In the variants that other engines run in here; where none is open yet, in the largest that may run.
    """
    files = snapshot.files(name)
    asked = {options.variant} | {runner.variant for runner in snapshot.engines.values()}
    variants = [variant for variant in files if variant in asked]
    if not variants:
        variants = [variant for variant in LOCAL_VARIANTS[pick_backend(options.backend)] if variant in files]
    estimates = (
        footprints.estimate_bytes(snapshot.bundle, files[variant][0], variant)
        for variant in variants or list(files)
    )
    return max(estimates, default=0)


def _wanted(manifest: Manifest, options: EngineOptions) -> tuple[str, ...]:
    if options.subsets is None:
        return tuple(manifest.engines)
    if not options.subsets:
        raise SubsetError(f"no subset to serve; this bundle has: {', '.join(manifest.engines)}")
    wanted = tuple(parse_subset(subset, manifest.order) for subset in options.subsets)
    missing = [subset for subset in wanted if subset not in manifest.engines]
    if missing:
        raise SubsetError(
            f"no engine for {', '.join(missing)} in this bundle; it has: {', '.join(manifest.engines)}"
        )
    return tuple(dict.fromkeys(wanted))


def _say_budget(options: EngineOptions, used: int, cold: list[str]) -> None:
    budget = f"{options.memory_budget_mb:g} MB"
    if used > options.memory_budget_bytes:
        log.warning(
            "the memory budget of %s is too small for the stems and one engine, which take %.1f MB; these "
            "stay open all the same",
            budget,
            used / 1e6,
        )
    log.info("within %s there is no room for the engines of %s; they open when wanted", budget, cold)


def _say_licence(model_id: str, licence: Licence) -> None:
    """Says the notice of a non-commercial licence once in a process."""
    if licence.non_commercial and model_id not in _said:
        _said.add(model_id)
        log.warning("%s (weights: %s)", licence.notice, licence.weights)
