"""From a checkpoint to a bundle: merge, bind, fold, quantize, judge, and commit at the very end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edgeemo.bundle.commit import BundleWriter
from edgeemo.bundle.manifest import FileEntry, Manifest, Provenance
from edgeemo.bundle.store import Bundle
from edgeemo.bundle.tensors import Array, bytes_from_tensors
from edgeemo.errors import BundleError, ExportError, FormatVersionError, InputError
from edgeemo.export.checkpoint import Checkpoint
from edgeemo.export.gate import judge_engine, judge_stem
from edgeemo.export.graph import IR_VERSION, OPSET, bind_weights, bytes_from_model, fold_graph
from edgeemo.export.quantize import quantize_engine, quantize_stem
from edgeemo.export.report import ENGINES, STEMS, ExportReport, GraphReport
from edgeemo.modality import subset_members
from edgeemo.runtimes.ort import onnxruntime_version

VARIANTS = ("fp32", "int8")
# Raised whenever the exporter's own rules change what it writes.
EXPORTER_VERSION = "1"
# Packages whose code decides over the bytes of a graph.
PACKAGES = ("numpy", "onnx", "onnx-ir", "onnxscript")
REFERENCE_WINDOWS = 16

Progress = Callable[[int, int, str], None]
Files = dict[str, dict[str, str]]


def export_bundle(
    checkpoint: str | Path | Checkpoint,
    out: str | Path,
    *,
    subsets: Sequence[str] | None = None,
    variants: Sequence[str] = VARIANTS,
    progress: Progress | None = None,
) -> ExportReport:
    """Turns a checkpoint into a bundle; every graph is judged before any is committed.

    The bundle in ``out`` changes in one step at the end. Engines that it already has of the same
    checkpoint, made with the same package versions, stay where they are not made anew.

    Args:
        checkpoint: its folder, or an open checkpoint.
        out: the bundle's folder; made if need be.
        subsets: engines to make; all of the checkpoint's if None.
        variants: any of ``"fp32"`` and ``"int8"``.
        progress: called with (steps done, steps, what is being made).

    Raises:
        CheckpointError: the checkpoint is broken.
        FormatVersionError: the checkpoint is of an unknown format.
        SubsetError: a subset that the checkpoint does not have.
        InputError: a variant that this exporter does not make.
        GateError: an engine gives other answers than the trained network.
        ExportError: the folder cannot be written, is being written by another process, or holds
            engines of another checkpoint that this export would lose.
    """
    begun = time.perf_counter()
    wanted = _choose_variants(variants)
    source = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint.open(checkpoint)
    keys = source.choose_subsets(subsets)
    members = {name for key in keys for name in subset_members(key)}
    modalities = [modality.name for modality in source.modalities if modality.name in members]
    steps = len(modalities) + len(keys) + 1

    def tell(done: int, what: str) -> None:
        if progress is not None:
            progress(done, steps, what)

    with BundleWriter(out) as writer:
        existing = _existing_bundle(writer, source, keys)
        kept = existing.manifest if existing is not None else None
        earlier = existing.report() if existing is not None else None
        made: list[tuple[GraphReport, bytes]] = []
        for done, name in enumerate(modalities):
            tell(done, f"stem of {name}")
            made += _make_stem(source, name, wanted)
        for done, key in enumerate(keys, start=len(modalities)):
            tell(done, f"engine {key}")
            made += _make_engine(source, key, wanted)
        tell(steps - 1, "writing")
        stems: Files = {key: dict(files) for key, files in kept.stems.items()} if kept else {}
        engines: Files = {key: dict(files) for key, files in kept.engines.items()} if kept else {}
        entries: dict[str, FileEntry] = dict(kept.files) if kept else {}
        graphs: list[GraphReport] = []
        for draft, data in made:
            prefix = "stem." if draft.kind == STEMS else ""
            file, entry = writer.add_graph(f"{prefix}{draft.name}.{draft.variant}", data)
            place = stems if draft.kind == STEMS else engines
            place.setdefault(draft.name, {})[draft.variant] = file
            entries[file] = entry
            graphs.append(
                GraphReport(draft.kind, draft.name, draft.variant, file, entry.bytes, draft.verdict)
            )
        reference = writer.add_reference(_reference_bytes(source, tuple(engines), tuple(stems)))
        manifest = _manifest(source, engines, stems, entries, reference)
        bundle = writer.commit(manifest)
        fresh = {graph.file for graph in graphs} | {reference[0]}
        report = ExportReport(
            bundle=bundle.path,
            model_id=source.model_id,
            manifest_sha256=bundle.manifest_sha256,
            graphs=tuple(graphs),
            kept=tuple(sorted(set(manifest.files) - fresh)),
            total_bytes=sum(entry.bytes for entry in manifest.files.values()),
            seconds=time.perf_counter() - begun,
        )
        writer.write_report(report.to_bytes(earlier))
    tell(steps, "done")
    return report


def provenance_of(checkpoint: Checkpoint) -> Provenance:
    """Returns what a bundle of ``checkpoint`` made here and now comes from."""
    return Provenance(
        checkpoint=dict(checkpoint.files),
        # onnxruntime has another name where it was built for a GPU, so it is asked itself.
        packages={name: version(name) for name in PACKAGES} | {"onnxruntime": onnxruntime_version()},
        exporter=EXPORTER_VERSION,
        opset=OPSET,
        ir_version=IR_VERSION,
    )


def _choose_variants(variants: Sequence[str]) -> tuple[str, ...]:
    unknown = [variant for variant in variants if variant not in VARIANTS]
    if unknown or not variants:
        raise InputError(
            f"unknown variant {', '.join(map(repr, unknown)) or '(none given)'}; "
            f"this exporter makes: {', '.join(VARIANTS)}"
        )
    return tuple(variant for variant in VARIANTS if variant in variants)


def _existing_bundle(writer: BundleWriter, source: Checkpoint, keys: Sequence[str]) -> Bundle | None:
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
    if old == new:
        return existing
    lost = [key for key in existing.manifest.engines if key not in keys]
    if lost:
        cause = "another checkpoint" if old.checkpoint != new.checkpoint else "other package versions"
        raise ExportError(
            f"{writer.folder} holds engines made from {cause}; this export would lose those for "
            f"{', '.join(lost)}. Export all subsets, or choose another folder"
        )
    return None


def _make_stem(source: Checkpoint, name: str, variants: Sequence[str]) -> list[tuple[GraphReport, bytes]]:
    folded = fold_graph(bind_weights(source.stem_graphs[name], source.weights))
    made = []
    for variant in variants:
        model = folded if variant == "fp32" else quantize_stem(folded, source.ranges[name], name)
        data = bytes_from_model(model)
        verdict = judge_stem(data, name, variant, source.reference)
        made.append((GraphReport(STEMS, name, variant, "", len(data), verdict), data))
    return made


def _make_engine(source: Checkpoint, key: str, variants: Sequence[str]) -> list[tuple[GraphReport, bytes]]:
    folded = fold_graph(bind_weights(source.engine_graphs[key], source.merged_weights(key)))
    made = []
    for variant in variants:
        model = folded if variant == "fp32" else quantize_engine(folded)
        data = bytes_from_model(model)
        verdict = judge_engine(data, key, variant, source.subsets[key], source.reference)
        made.append((GraphReport(ENGINES, key, variant, "", len(data), verdict), data))
    return made


def _reference_bytes(source: Checkpoint, subsets: Sequence[str], modalities: Sequence[str]) -> bytes:
    """Returns a few windows and blocks with known answers, to check a backend on the device."""
    chosen: dict[str, Array] = {}
    names = [f"{kind}.{m}" for m in modalities for kind in ("features", "mask")]
    names += [f"logits.{key}" for key in subsets]
    evidence = [f"evidence.{key}.{m}" for key in subsets for m in subset_members(key)]
    names += [name for name in evidence if name in source.reference]
    names += [f"stem.{m}.{side}" for m in modalities for side in ("input", "output")]
    for name in names:
        array = source.reference[name]
        rows = np.linspace(0, len(array) - 1, min(REFERENCE_WINDOWS, len(array))).round().astype(int)
        chosen[name] = array[rows]
    return bytes_from_tensors(chosen)


def _manifest(
    source: Checkpoint,
    engines: Mapping[str, Mapping[str, str]],
    stems: Mapping[str, Mapping[str, str]],
    entries: Mapping[str, FileEntry],
    reference: tuple[str, FileEntry],
) -> Manifest:
    used = {file for group in (engines, stems) for files in group.values() for file in files.values()}
    files = {name: entry for name, entry in entries.items() if name in used}
    files[reference[0]] = reference[1]
    return Manifest(
        model_id=source.model_id,
        family=source.family,
        labels=source.labels,
        hop_s=source.hop_s,
        modalities=tuple(modality for modality in source.modalities if modality.name in stems),
        subsets={key: source.subsets[key] for key in source.subsets if key in engines},
        engines={key: engines[key] for key in source.subsets if key in engines},
        stems={modality: stems[modality] for modality in source.order if modality in stems},
        files=files,
        provenance=provenance_of(source),
        licence=source.licence,
        reference=reference[0],
    )
