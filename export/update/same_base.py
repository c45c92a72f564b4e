"""Whether a checkpoint is the one that a bundle's engines were made from, as far as new adapters need it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeemo.bundle.manifest import Manifest, ModalitySpec, Provenance, Update
from edgeemo.errors import CheckpointError
from edgeemo.export.adapters.peft import CONFIG_FILE, WEIGHTS_FILE
from edgeemo.export.checkpoint import CHECKPOINT, COMMON, RANGES, REFERENCE, Checkpoint
from edgeemo.export.provenance import provenance_of

# Stems are not made anew, and answers are judged against the new adapters', not the old ones'.
_FREE = frozenset({CHECKPOINT, RANGES, REFERENCE})


def check_base(
    manifest: Manifest, base: Checkpoint, touched: Sequence[str], folders: Mapping[str, Path]
) -> None:
    """Refuses a checkpoint whose engines would not be those of the bundle with other adapters.

    Args:
        manifest: of the bundle.
        base: the checkpoint.
        touched: the subsets whose engines are made anew.
        folders: adapter -> its new folder; every other one that a touched engine needs must be the one
            that the engine was made with.

    Raises:
        CheckpointError: labels, modalities, front-ends, windows, stems, weights, graphs or an adapter that
            stays differ; the message says which.
    """
    if base.labels != manifest.labels:
        _refuse(base, "labels", ", ".join(manifest.labels), ", ".join(base.labels))
    if base.hop_s != manifest.hop_s:
        _refuse(base, "seconds between readings", f"{manifest.hop_s:g}", f"{base.hop_s:g}")
    known = {modality.name: modality for modality in base.modalities}
    if tuple(name for name in base.order if name in manifest.order) != manifest.order:
        _refuse(base, "modalities", ", ".join(manifest.order), ", ".join(base.order))
    for modality in manifest.modalities:
        _check_modality(base, modality, known[modality.name])
    made_from = manifest.provenance.checkpoint
    adapter_files = {name for key in base.adapter_folders for name in files_of_adapter(base, key)}
    for name, found in base.files.items():
        if name not in _FREE and name not in adapter_files and made_from.get(name) != found:
            _refuse(base, f"the file {name}", _short(made_from.get(name)), _short(found))
    for subset in touched:
        if subset not in base.subsets:
            _refuse(base, "subsets", ", ".join(manifest.engines), ", ".join(base.subsets))
        for key in (COMMON, subset):
            if key not in folders and key in base.adapters:
                _check_adapter(manifest.provenance, base, subset, key)


def _check_modality(base: Checkpoint, ours: ModalitySpec, theirs: ModalitySpec) -> None:
    if theirs.front_end != ours.front_end:
        _refuse(base, f"front-end of {ours.name}", str(dict(ours.front_end)), str(dict(theirs.front_end)))
    if theirs != ours:
        _refuse(base, f"window or stem of {ours.name}", str(ours), str(theirs))


def _check_adapter(provenance: Provenance, base: Checkpoint, subset: str, key: str) -> None:
    updated = provenance.updates[subset].files if subset in provenance.updates else {}
    for name in files_of_adapter(base, key):
        made_with = updated.get(name, provenance.checkpoint.get(name))
        if made_with != base.files[name]:
            raise CheckpointError(
                f"the engine {subset} needs the adapter {key!r} too. The bundle's was made with another one "
                f"than {base.path / name} (SHA-256 {_short(made_with)}, here {_short(base.files[name])}): "
                f"give the folder of that one as well, with --adapter {key}=DIR"
            )


def _refuse(base: Checkpoint, what: str, ours: str, theirs: str) -> None:
    raise CheckpointError(
        f"{base.path} is not what this bundle was made from; {what}: {ours} in the bundle, {theirs} in the "
        "checkpoint. Give the bundle's own checkpoint, or export this one to a bundle of its own"
    )


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12]


def files_of_adapter(base: Checkpoint, key: str) -> tuple[str, str]:
    """Returns the names that both files of an adapter have in a checkpoint."""
    folder = base.adapter_folders.get(key, f"adapters/{key}")
    return f"{folder}/{CONFIG_FILE}", f"{folder}/{WEIGHTS_FILE}"


def updated_provenance(
    old: Provenance, base: Checkpoint, touched: Sequence[str], folders: Mapping[str, Path]
) -> Provenance:
    """Returns what a bundle comes from after new adapters were merged into the touched engines here.

    Raises:
        CheckpointError: an adapter's file cannot be read any more.
    """
    here = provenance_of(base)
    updates = dict(old.updates)
    for subset in touched:
        files = dict(updates[subset].files) if subset in updates else {}
        for key in (COMMON, subset):
            if key in folders:
                for name in files_of_adapter(base, key):
                    files[name] = _sha256(folders[key] / Path(name).name)
                brought = Path(folders[key] / REFERENCE)
                if brought.is_file():
                    files[str(Path(files_of_adapter(base, key)[0]).parent / REFERENCE)] = _sha256(brought)
        updates[subset] = Update(
            files=dict(sorted(files.items())), packages=here.packages, exporter=here.exporter
        )
    return Provenance(
        checkpoint=old.checkpoint,
        packages=old.packages,
        exporter=old.exporter,
        opset=old.opset,
        ir_version=old.ir_version,
        updates=dict(sorted(updates.items())),
    )


def _sha256(place: Path) -> str:
    try:
        return hashlib.sha256(place.read_bytes()).hexdigest()
    except OSError as reason:
        raise CheckpointError(f"{place}: cannot be read ({reason.strerror or reason})") from None
