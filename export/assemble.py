"""What passed the gate becomes the files and the manifest of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeemo.bundle.commit import GRAPHS, BundleWriter
from edgeemo.bundle.manifest import FileEntry, Manifest
from edgeemo.bundle.store import Bundle
from edgeemo.bundle.tensors import Array, bytes_from_tensors
from edgeemo.export.checkpoint import Checkpoint
from edgeemo.export.drafts import Draft
from edgeemo.export.gate.thresholds import Thresholds
from edgeemo.export.provenance import provenance_of
from edgeemo.export.recipe import STEMS, Recipe, toml_from_recipe
from edgeemo.export.report import GraphReport
from edgeemo.export.share import share_tensors
from edgeemo.modality import subset_members

REFERENCE_WINDOWS = 16

Files = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Assembled:
    """A bundle that only has to be committed.

    Attributes:
        manifest: of the whole bundle, kept engines included.
        graphs: those that were written now.
        shared: other files that were written now: reference, recipe, shared tensors.
    """

    manifest: Manifest
    graphs: tuple[GraphReport, ...]
    shared: set[str]


def assemble(
    writer: BundleWriter,
    source: Checkpoint,
    drafts: Sequence[Draft],
    *,
    existing: Bundle | None = None,
    recipe: Recipe | None = None,
    thresholds: Thresholds | None = None,
) -> Assembled:
    """Writes the files of a bundle and returns its manifest.

    Args:
        writer: of the bundle's folder.
        source: what everything was made from.
        drafts: what was made.
        existing: the bundle whose other engines stay, or None.
        recipe: the choices to keep in the bundle, or None.
        thresholds: what the drafts were held to; the built-in ones if None. They go into the manifest
            beside those that the checkpoint has for sessions.
    """
    kept = existing.manifest if existing is not None else None
    stems: Files = {key: dict(files) for key, files in kept.stems.items()} if kept else {}
    engines: Files = {key: dict(files) for key, files in kept.engines.items()} if kept else {}
    entries: dict[str, FileEntry] = dict(kept.files) if kept else {}
    graphs: list[GraphReport] = []
    shared: set[str] = set()
    weights = dict(kept.weights) if kept else {}
    for label, group in _groups(drafts).items():
        models = share_tensors(
            {_stem_of(draft): draft.model for draft in group}, label, _staying(existing, group)
        )
        if models.data:
            file, entry = writer.add_weights(label, models.data)
            entries[file] = entry
            shared.add(file)
        for draft in group:
            stem = _stem_of(draft)
            file, entry = writer.add_graph(stem, models.models[stem])
            place = stems if draft.kind == STEMS else engines
            place.setdefault(draft.name, {})[draft.variant] = file
            entries[file] = entry
            if models.locations[stem]:
                weights[file] = tuple(f"{GRAPHS}/{location}" for location in models.locations[stem])
            graphs.append(
                GraphReport(
                    kind=draft.kind,
                    name=draft.name,
                    variant=draft.variant,
                    file=file,
                    bytes=entry.bytes,
                    verdict=draft.verdict,
                    recipe=draft.recipe,
                    passes=draft.passes,
                )
            )
    used_stems = {name for key in engines for name in subset_members(key)}
    stems = {name: files for name, files in stems.items() if name in used_stems}
    reference, entry = writer.add_reference(reference_bytes(source, tuple(engines), tuple(stems)))
    entries[reference] = entry
    shared.add(reference)
    recipe_file = None
    if recipe is not None:
        recipe_file, entry = writer.add_recipe(toml_from_recipe(recipe).encode())
        entries[recipe_file] = entry
        shared.add(recipe_file)
    named = {file for group in (engines, stems) for files in group.values() for file in files.values()}
    weights = {file: files for file, files in weights.items() if file in named}
    named |= {file for files in weights.values() for file in files}
    named |= {name for name in (reference, recipe_file) if name is not None}
    manifest = Manifest(
        model_id=source.model_id,
        family=source.family,
        labels=source.labels,
        hop_s=source.hop_s,
        modalities=tuple(modality for modality in source.modalities if modality.name in stems),
        subsets={key: source.subsets[key] for key in source.subsets if key in engines},
        engines={key: engines[key] for key in source.subsets if key in engines},
        stems={name: stems[name] for name in source.order if name in stems},
        files={name: entry for name, entry in entries.items() if name in named},
        provenance=provenance_of(source),
        licence=source.licence,
        reference=reference,
        recipe=recipe_file,
        weights=weights,
        thresholds={**source.thresholds, **(thresholds or Thresholds()).to_json()},
    )
    return Assembled(manifest, tuple(graph for graph in graphs if graph.file in named), shared)


def _stem_of(draft: Draft) -> str:
    """Returns the file name of a graph without its hash."""
    return f"{'stem.' if draft.kind == STEMS else ''}{draft.name}.{draft.variant}"


def _groups(drafts: Sequence[Draft]) -> dict[str, list[Draft]]:
    """Returns the graphs that share tensors with each other, by the name of the file that will hold them.

    The engines of one variant: what no adapter touches. All stems: the table of words, which is int8 in
    every quantized variant and in fp16.
    """
    groups: dict[str, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(STEMS if draft.kind == STEMS else draft.variant, []).append(draft)
    return groups


def _staying(existing: Bundle | None, group: Sequence[Draft]) -> dict[str, bytes]:
    """Returns location -> contents of the shared tensors of graphs that stay, beside those made now."""
    if existing is None:
        return {}
    manifest, now = existing.manifest, {(draft.name, draft.variant) for draft in group}
    graphs = manifest.stems if group[0].kind == STEMS else manifest.engines
    variants = {draft.variant for draft in group}
    files = {
        weights
        for name, of_name in graphs.items()
        for variant, file in of_name.items()
        if (name, variant) not in now and (group[0].kind == STEMS or variant in variants)
        for weights in manifest.weights.get(file, ())
    }
    return {name.removeprefix(f"{GRAPHS}/"): existing.read_file(name) for name in sorted(files)}


def recipe_bytes(bundle: Bundle) -> bytes | None:
    """Returns the recipe that a bundle holds, or None."""
    name = bundle.manifest.recipe
    return None if name is None else bundle.read_file(name)


def reference_bytes(source: Checkpoint, subsets: Sequence[str], modalities: Sequence[str]) -> bytes:
    """Returns a few windows and blocks with known answers, to check a backend on the device."""
    chosen: dict[str, Array] = {}
    names = [f"{kind}.{name}" for name in modalities for kind in ("features", "mask")]
    names += [f"logits.{key}" for key in subsets]
    optional = [f"evidence.{key}.{name}" for key in subsets for name in subset_members(key)]
    names += [name for name in optional if name in source.reference]
    names += [f"stem.{name}.{side}" for name in modalities for side in ("input", "output")]
    for name in names:
        array = source.reference[name]
        rows = np.linspace(0, len(array) - 1, min(REFERENCE_WINDOWS, len(array))).round().astype(int)
        chosen[name] = array[rows]
    return bytes_from_tensors(chosen)
