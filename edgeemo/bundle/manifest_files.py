"""What the files of a bundle were made from, and which of them refers to which.

Every file is named by exactly what needs it: a listed file that nothing refers to, or the reverse, is a
broken manifest.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from edgeemo.bundle.fields import Fields
from edgeemo.bundle.manifest import Manifest, Provenance, Update
from edgeemo.modality import subset_members

WEIGHTS_FOLDER = PurePosixPath("graphs/weights")
"""Where tensors lie that several graphs share; graphs lie one folder above and point down to them."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def weights_from_fields(entry: Fields) -> dict[str, tuple[str, ...]]:
    """Returns the weights files that each graph refers to, sorted."""
    return {name: tuple(sorted(entry.texts(name))) for name in sorted(entry.names())}


def provenance_from_fields(entry: Fields) -> Provenance:
    """Returns what the engines were made from and with."""
    updates: dict[str, Update] = {}
    if "updates" in entry.names():
        listed = entry.fields("updates")
        for subset in sorted(listed.names()):
            update = listed.fields(subset)
            updates[subset] = Update(
                files=_hashes(update.fields("files")),
                packages=_texts(update.fields("packages")),
                exporter=update.text("exporter"),
            )
            update.finish()
    found = Provenance(
        checkpoint=_hashes(entry.fields("checkpoint")),
        packages=_texts(entry.fields("packages")),
        exporter=entry.text("exporter"),
        opset=entry.integer("opset", low=1),
        ir_version=entry.integer("ir_version", low=1),
        updates=updates,
    )
    entry.finish()
    return found


def provenance_json(provenance: Provenance) -> dict[str, object]:
    """Returns what `provenance_from_fields` reads; ``updates`` only where there were any."""
    data: dict[str, object] = {
        "checkpoint": dict(provenance.checkpoint),
        "packages": dict(provenance.packages),
        "exporter": provenance.exporter,
        "opset": provenance.opset,
        "ir_version": provenance.ir_version,
    }
    if provenance.updates:
        data["updates"] = {
            subset: {
                "files": dict(update.files),
                "packages": dict(update.packages),
                "exporter": update.exporter,
            }
            for subset, update in provenance.updates.items()
        }
    return data


def check_references(manifest: Manifest, top: Fields) -> None:
    """Refuses a manifest whose parts do not fit each other; raises the reader's error."""
    if not manifest.engines:
        top.fail("'engines' is empty; expected at least one subset")
    if set(manifest.engines) != set(manifest.subsets):
        top.fail(
            f"'engines' has {', '.join(manifest.engines)} and 'subsets' has {', '.join(manifest.subsets)}; "
            "expected the same"
        )
    used = {name for key in manifest.engines for name in subset_members(key)}
    if used != set(manifest.order) or used != set(manifest.stems):
        top.fail(
            f"the engines use {', '.join(sorted(used))}; expected exactly these under 'modalities' "
            f"({', '.join(manifest.order)}) and 'stems' ({', '.join(manifest.stems)})"
        )
    if unknown := sorted(set(manifest.provenance.updates) - set(manifest.engines)):
        top.fail(f"'provenance' tells of an update of {unknown[0]!r}, which has no engine")
    named = {
        name for group in (manifest.engines, manifest.stems) for v in group.values() for name in v.values()
    }
    for graph, files in manifest.weights.items():
        if graph not in named:
            top.fail(f"'weights' is about {graph!r}, which is neither an engine nor a stem")
        for name in files:
            _check_weights_name(name, graph, top)
    named |= {name for files in manifest.weights.values() for name in files}
    named |= {name for name in (manifest.reference, manifest.recipe) if name is not None}
    if missing := sorted(named - set(manifest.files)):
        top.fail(f"{missing[0]!r} is named but has no size and hash under 'files'")
    if unused := sorted(set(manifest.files) - named):
        top.fail(f"{unused[0]!r} is listed under 'files' but nothing refers to it")


def _check_weights_name(name: str, graph: str, top: Fields) -> None:
    """Refuses a weights file that is not one folder below the graph that points to it."""
    inside = PurePosixPath(name).parent == WEIGHTS_FOLDER
    if not inside or PurePosixPath(graph).parent != WEIGHTS_FOLDER.parent:
        top.fail(
            f"{graph!r} refers to {name!r}; graphs lie in {WEIGHTS_FOLDER.parent}/ and refer to files in "
            f"{WEIGHTS_FOLDER}/ only"
        )


def _hashes(entry: Fields) -> dict[str, str]:
    return {name: sha256_from_fields(entry, name) for name in sorted(entry.names())}


def _texts(entry: Fields) -> dict[str, str]:
    return {name: entry.text(name) for name in sorted(entry.names())}


def sha256_from_fields(entry: Fields, key: str) -> str:
    """Returns a SHA-256 as 64 hexadecimal digits."""
    text = entry.text(key)
    if not _SHA256.fullmatch(text):
        entry.fail(f"{key!r} must be 64 lower-case hexadecimal digits, found {text[:80]!r}")
    return text
