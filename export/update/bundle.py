"""New adapters for an installed bundle: only the engines that they touch are made anew, without torch.

Everything else stays, file by file. The base checkpoint must be the one that the engines were made from,
and whatever adapter a touched engine needs beside the new ones must be the one that it has now. Engines
are judged by the answers that the adapter's folder brings, or else by the network with base and adapters
apart; then the manifest is replaced, and the one before is kept for `edgeemo rollback`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from edgeemo.bundle.commit import BundleWriter
from edgeemo.bundle.manifest import Manifest
from edgeemo.bundle.place import changeable
from edgeemo.bundle.store import Bundle
from edgeemo.errors import BundleError, CheckpointError, SubsetError
from edgeemo.export.adapters.merge import Adapter
from edgeemo.export.adapters.unmerged import UnmergedNetwork
from edgeemo.export.assemble import Assembled, assemble, recipe_bytes
from edgeemo.export.checkpoint import COMMON, Checkpoint
from edgeemo.export.drafts import Draft, Source, make_drafts
from edgeemo.export.gate.thresholds import Thresholds
from edgeemo.export.recipe import ENGINES, Recipe, recipe_from_toml
from edgeemo.export.report import ExportReport
from edgeemo.export.update.judgement import answers_to_judge_by
from edgeemo.export.update.same_base import check_base, updated_provenance
from edgeemo.modality import parse_subset

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class EngineUpdate:
    """One engine that was made anew.

    Attributes:
        subset: its subset.
        judged_by: ``"the adapter's own reference"`` or ``"the unmerged network"``.
        seconds: merging, all variants and the gate, on the clock.
        core_seconds: the same in time of this process on a core, whatever else the machine does.
    """

    subset: str
    judged_by: str
    seconds: float
    core_seconds: float


@dataclass(frozen=True)
class UpdateReport:
    """What one update did.

    Attributes:
        bundle: the folder of the updated bundle.
        copied_from: the bundle that may not be changed and was copied, or None.
        previous_sha256: the state before, which a rollback restores.
        engines: those that were made anew.
        export: their graphs and verdicts, what stayed, sizes and seconds.
    """

    bundle: Path
    copied_from: Path | None
    previous_sha256: str
    engines: tuple[EngineUpdate, ...]
    export: ExportReport


def update_bundle(
    bundle: str | Path,
    base: str | Path,
    adapters: Mapping[str, str | Path],
    *,
    wait_s: float = 0.0,
    progress: Progress | None = None,
) -> UpdateReport:
    """Merges new adapters into an installed bundle; its manifest changes in one step at the end.

    A bundle that may not be changed where it lies is copied to the user's data folder first, and the copy
    is updated; a later update of the same bundle goes on from there. Temperatures and priors stay.

    Args:
        bundle: its folder.
        base: the checkpoint that it was made from.
        adapters: subset, or ``"common"``, which touches every engine -> the folder of its new adapter, in
            PEFT's layout; see `answers_to_judge_by` for the reference that it may bring.
        wait_s: how long to wait for another writer before giving up.
        progress: called with (steps done, steps, what is being made).

    Raises:
        BundleError: the bundle is broken, or there is none.
        FormatVersionError: the bundle or the checkpoint is of an unknown format.
        SubsetError: an adapter for a subset that has no engine here, or no adapter at all.
        CheckpointError: the checkpoint or an adapter is broken, does not fit its base, or is not the one
            that the bundle was made from.
        GateError: an engine gives other answers than its reference.
        ExportError: the bundle cannot be written, or is being written by another process.
    """
    begun = time.perf_counter()
    order = Bundle.open(bundle).manifest.order
    folders = {
        name if name == COMMON else parse_subset(name, order): Path(place) for name, place in adapters.items()
    }
    if not folders or len(folders) < len(adapters):
        raise SubsetError("expected adapters for at least one subset or common, and one for each")
    source = Checkpoint.open(base)
    place = changeable(bundle, wait_s=wait_s)
    with BundleWriter(place, wait_s=wait_s) as writer:
        existing = writer.existing()
        if existing is None:
            raise BundleError(f"{place} holds no bundle any more; install it again")
        existing.verify()
        touched = _touched(existing, folders)
        check_base(existing.manifest, source, touched, folders)
        fresh = {name: source.read_adapter(folder, name) for name, folder in folders.items()}
        for name, adapter in fresh.items():
            _check_coverage(name, folders[name], adapter, source.adapters.get(name))
        source = replace(source, adapters={**source.adapters, **fresh})
        recipe, limits = _recipe_of(existing), _thresholds_of(existing.manifest)
        windows = existing.reference() if existing.manifest.reference is not None else {}
        made: list[Draft] = []
        engines: list[EngineUpdate] = []
        for done, subset in enumerate(touched):
            if progress is not None:
                progress(done, len(touched) + 1, f"engine {subset}")
            start, start_core = time.perf_counter(), time.process_time()
            with _network(source, subset) as network:
                judged_by, answers = answers_to_judge_by(source, network, folders)
                # What the bundle says to whoever checks a backend with its own few windows.
                again = network.answers(windows) if windows else {}
                windows |= {name: array for name, array in again.items() if name in windows}
            engine = Source(replace(source, reference=answers), ENGINES, subset)
            variants = tuple(existing.manifest.engines[subset])
            made += make_drafts(engine, variants, recipe or Recipe(), limits)[0]
            seconds, core = time.perf_counter() - start, time.process_time() - start_core
            engines.append(EngineUpdate(subset, judged_by, seconds, core))
        if progress is not None:
            progress(len(touched), len(touched) + 1, "writing")
        known = replace(source, reference=windows or source.reference)
        assembled = assemble(writer, known, made, existing=existing, recipe=recipe, thresholds=limits)
        manifest = replace(
            _with_engines(existing.manifest, assembled),
            provenance=updated_provenance(existing.manifest.provenance, source, touched, folders),
        )
        updated = writer.commit(manifest)
        written = {graph.file for graph in assembled.graphs} | assembled.shared
        report = ExportReport(
            bundle=updated.path,
            model_id=manifest.model_id,
            manifest_sha256=updated.manifest_sha256,
            graphs=assembled.graphs,
            dropped=(),
            labelled=(),
            kept=tuple(sorted(set(manifest.files) - written)),
            thresholds=limits,
            total_bytes=sum(entry.bytes for entry in manifest.files.values()),
            seconds=time.perf_counter() - begun,
        )
        writer.write_report(report.to_bytes(existing.report()))
    copied_from = None if place == Path(bundle) else Path(bundle)
    return UpdateReport(place, copied_from, existing.manifest_sha256, tuple(engines), report)


def _touched(bundle: Bundle, folders: Mapping[str, Path]) -> tuple[str, ...]:
    """Returns the engines that the adapters change, in canonical order.

    Raises:
        SubsetError: an adapter is for a subset without an engine; the message lists those there are.
    """
    engines = tuple(bundle.manifest.engines)
    for name in folders:
        if name != COMMON:
            bundle.variants(name)
    return engines if COMMON in folders else tuple(key for key in engines if key in folders)


def _check_coverage(name: str, folder: Path, new: Adapter, old: Adapter | None) -> None:
    """Raises unless an adapter reaches every module that the one it replaces adapts.

    Merged without the rest it would be a worse network that agrees with its own reference.

    Raises:
        CheckpointError: some modules are missing; the message counts them and names the first.
    """
    missing = [] if old is None else [module for module in old.pairs if module not in new.pairs]
    if old is not None and missing:
        raise CheckpointError(
            f"{folder}: the new adapter of {name!r} lacks {len(missing)} of the {len(old.pairs)} modules "
            f"that the one it replaces adapts, first {missing[0]!r}; those would lose what they learned. "
            "Save all of them, with lora_B = 0 where nothing is to be added"
        )


def _recipe_of(bundle: Bundle) -> Recipe | None:
    data = recipe_bytes(bundle)
    return (
        None
        if data is None
        else recipe_from_toml(data.decode(), f"{bundle.path / str(bundle.manifest.recipe)}")
    )


def _thresholds_of(manifest: Manifest) -> Thresholds:
    """Returns what the bundle's engines were held to; the built-in limits where it does not say."""
    known = {field.name for field in fields(Thresholds)}
    return Thresholds(**{name: value for name, value in manifest.thresholds.items() if name in known})


def _network(source: Checkpoint, subset: str) -> UnmergedNetwork:
    adapters = [source.adapters[name] for name in (COMMON, subset) if name in source.adapters]
    return UnmergedNetwork(source.engine_graphs[subset], source.weights, adapters, subset)


def _with_engines(old: Manifest, assembled: Assembled) -> Manifest:
    """Returns the manifest with the new engines, their files and answers; all else is as it was."""
    new = assembled.manifest
    files = dict(new.files)
    if old.reference is None and new.reference is not None:
        del files[new.reference]
    return replace(
        old,
        engines=new.engines,
        files=files,
        weights=new.weights,
        reference=None if old.reference is None else new.reference,
    )
