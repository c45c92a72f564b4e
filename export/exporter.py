"""From a checkpoint to a bundle: make every variant, judge it, and commit at the very end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeemo.bundle.commit import BundleWriter
from edgeemo.bundle.store import Bundle
from edgeemo.errors import BundleError, ExportError, FormatVersionError, InputError
from edgeemo.export.assemble import assemble, recipe_bytes
from edgeemo.export.checkpoint import CHECKPOINT, Checkpoint
from edgeemo.export.gate.labelled import Measure
from edgeemo.export.gate.thresholds import Thresholds
from edgeemo.export.making import Order, make_all
from edgeemo.export.provenance import provenance_of
from edgeemo.export.recipe import Recipe, toml_from_recipe
from edgeemo.export.report import ExportReport
from edgeemo.export.variants.make import DEFAULT_VARIANTS, VARIANTS

Progress = Callable[[int, int, str], None]


def export_bundle(
    checkpoint: str | Path | Checkpoint,
    out: str | Path,
    *,
    subsets: Sequence[str] | None = None,
    variants: Sequence[str] = DEFAULT_VARIANTS,
    recipe: Recipe | None = None,
    tune: bool = False,
    allow_drop: Sequence[str] = (),
    measure: Measure | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Turns a checkpoint into a bundle; every graph is judged before any is committed.

    The bundle in ``out`` changes in one step at the end. Engines that it already has of the same
    checkpoint, made by the same recipe with the same package versions, stay where they are not made anew.

    Args:
        checkpoint: its folder, or an open checkpoint.
        out: the bundle's folder; made if need be.
        subsets: engines to make; all of the checkpoint's if None.
        variants: any of ``"fp32"``, ``"int8"``, ``"fp16"`` and ``"int8-trt"``.
        recipe: choices to obey; the built-in ones if None.
        tune: measure the choices on this machine and keep them in the bundle as its recipe.
        allow_drop: subsets that may lose a variant that fails the gate, or ship as fp32 alone, or not at
            all, instead of failing the export.
        measure: measures engines on labelled data; none is needed.
        progress: called with (steps done, steps, what is being made).

    Raises:
        CheckpointError: the checkpoint is broken.
        FormatVersionError: the checkpoint is of an unknown format.
        SubsetError: a subset that the checkpoint does not have.
        InputError: a variant that this exporter does not make, or a recipe together with ``tune``.
        GateError: an engine gives other answers than the trained network.
        ExportError: the folder cannot be written, is being written by another process, or holds
            engines of another checkpoint that this export would lose; or the recipe is of another one.
    """
    begun = time.perf_counter()
    wanted = _choose_variants(variants)
    if tune and recipe is not None:
        raise InputError("a recipe and tune exclude each other: obey the choices, or measure them anew")
    source = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint.open(checkpoint)
    keys = source.choose_subsets(subsets)
    may_drop = source.choose_subsets(allow_drop) if allow_drop else ()
    if recipe is not None:
        recipe.check_names(tuple(source.subsets), source.order, VARIANTS)
    limits = Thresholds()
    order = Order(source, keys, wanted, limits, recipe or Recipe(), tune, may_drop, measure)
    steps = iter(range(len(order.places) + 2 + (measure is not None)))
    last = len(order.places) + 1 + (measure is not None)

    def tell(what: str) -> None:
        done = next(steps)
        if progress is not None:
            progress(done, last, what)

    _check_place(out)
    with BundleWriter(out) as writer:
        if not tune:
            _existing_bundle(writer, source, keys, recipe)  # refused before the work, and looked at after it
        made = make_all(order, tell)
        tell("writing")
        choices = made.recipe if tune or recipe is not None else None
        existing = _existing_bundle(writer, source, keys, choices)
        assembled = assemble(
            writer, source, made.drafts, existing=existing, recipe=choices, thresholds=limits
        )
        bundle = writer.commit(assembled.manifest)
        files = bundle.manifest.files
        report = ExportReport(
            bundle=bundle.path,
            model_id=source.model_id,
            manifest_sha256=bundle.manifest_sha256,
            graphs=assembled.graphs,
            dropped=made.dropped,
            labelled=made.labelled,
            kept=tuple(sorted(set(files) - {graph.file for graph in assembled.graphs} - assembled.shared)),
            thresholds=limits,
            total_bytes=sum(entry.bytes for entry in files.values()),
            seconds=time.perf_counter() - begun,
        )
        writer.write_report(report.to_bytes(existing.report() if existing is not None else None))
    tell("done")
    return report


def _choose_variants(variants: Sequence[str]) -> tuple[str, ...]:
    unknown = [variant for variant in variants if variant not in VARIANTS]
    if unknown or not variants:
        raise InputError(
            f"unknown variant {', '.join(map(repr, unknown)) or '(none given)'}; "
            f"this exporter makes: {', '.join(VARIANTS)}"
        )
    return tuple(variant for variant in VARIANTS if variant in variants)


def _check_place(out: str | Path) -> None:
    """Raises where a bundle would lie among files that it has nothing to do with."""
    if (Path(out) / CHECKPOINT).exists():
        raise ExportError(f"{out} holds a checkpoint; choose another folder for the bundle")


def _existing_bundle(
    writer: BundleWriter, source: Checkpoint, keys: Sequence[str], recipe: Recipe | None
) -> Bundle | None:
    """Returns the bundle whose engines may stay, or None where this export replaces everything.

    Raises:
        ExportError: what is there can neither stay nor be replaced by the subsets of this export.
    """
    try:
        existing = writer.existing()
        if existing is None:
            return None
        existing.verify()
    except (BundleError, FormatVersionError) as reason:
        lost = [key for key in source.subsets if key not in keys]
        if lost:
            raise ExportError(
                f"{writer.folder} holds a bundle that cannot be read ({reason}). Export all subsets to "
                "replace it, or choose another folder"
            ) from None
        return None
    old, new = existing.manifest.provenance, provenance_of(source)
    same_recipe = recipe_bytes(existing) == (None if recipe is None else toml_from_recipe(recipe).encode())
    if old == new and same_recipe:
        return existing
    lost = [key for key in existing.manifest.engines if key not in keys]
    if lost:
        if old.checkpoint != new.checkpoint:
            cause = "from another checkpoint"
        else:
            cause = "by another recipe" if old == new else "from other package versions"
        raise ExportError(
            f"{writer.folder} holds engines made {cause}; this export would lose those for "
            f"{', '.join(lost)}. Export all subsets, or choose another folder"
        )
    return None
