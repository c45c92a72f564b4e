"""``manifest.json``: the one text that stands for a manifest.

Reading is strict (an unknown key, a wrong type, a file name that leaves the folder are refused with
a sentence) and writing is canonical: equal manifests have equal bytes, whatever order they were
built in.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath

from edgeemo.bundle.fields import Fields, parse_json
from edgeemo.bundle.manifest import (
    FileEntry,
    Licence,
    Manifest,
    ModalitySpec,
    StemSpec,
    SubsetSpec,
    WindowSpec,
)
from edgeemo.bundle.manifest_files import (
    check_references,
    provenance_from_fields,
    provenance_json,
    sha256_from_fields,
    weights_from_fields,
)
from edgeemo.errors import BundleError, EdgeEmoError, FormatVersionError, SubsetError
from edgeemo.modality import subset_key, subset_members

FORMAT_VERSION = 2
"""What is written. Version 1 had neither shared weights nor a recipe and is still read."""
READ_VERSIONS = (1, 2)
MAX_MODALITIES = 16
HOP_S = (0.05, 60.0)
SCOPES = ("stream", "window")
ITEM_TYPES = ("float32", "int64")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VARIANT = re.compile(r"[a-z][a-z0-9-]*")
_PRIOR_TOLERANCE = 1e-3


def manifest_from_json(data: bytes, where: str = "manifest.json") -> Manifest:
    """Returns the manifest that ``data`` spells.

    Args:
        data: UTF-8 JSON text.
        where: name of the file, for messages.

    Raises:
        FormatVersionError: written in a format that this version does not know.
        BundleError: anything else that is missing, misspelt, contradictory or unsafe.
    """
    top = Fields(parse_json(data, where, BundleError), where, BundleError)
    version = check_format_version(top, READ_VERSIONS, "bundle")
    labels = top.texts("labels")
    modalities = tuple(modality_from_fields(entry) for entry in top.listed("modalities"))
    order = tuple(modality.name for modality in modalities)
    if not labels or not 1 <= len(modalities) <= MAX_MODALITIES or len(set(order)) < len(order):
        top.fail(f"needs at least one label and 1..{MAX_MODALITIES} modalities, each of them once")
    manifest = Manifest(
        model_id=top.text("model_id"),
        family=top.text("family"),
        labels=labels,
        hop_s=hop_from_fields(top),
        modalities=modalities,
        subsets=subsets_from_fields(top.fields("subsets"), order, len(labels)),
        engines=_variants(top.fields("engines"), canonical_keys(top.fields("engines"), order)),
        stems=_variants(top.fields("stems"), order),
        files=_files(top.fields("files")),
        provenance=provenance_from_fields(top.fields("provenance")),
        licence=licence_from_fields(top.fields("licence")),
        reference=None if top.value("reference") is None else top.text("reference"),
        thresholds=_numbers(top.fields("thresholds")),
        weights={} if version < 2 else weights_from_fields(top.fields("weights")),
        recipe=None if version < 2 or top.value("recipe") is None else top.text("recipe"),
    )
    top.finish()
    check_references(manifest, top)
    return manifest


def json_from_manifest(manifest: Manifest) -> bytes:
    """Returns the canonical text of ``manifest``: UTF-8, sorted keys, two spaces, unix line ends.

    Equal manifests have equal bytes; `manifest_from_json` of it gives ``manifest`` back.
    """
    data: dict[str, object] = {
        "format_version": FORMAT_VERSION,
        "model_id": manifest.model_id,
        "family": manifest.family,
        "labels": list(manifest.labels),
        "hop_s": manifest.hop_s,
        "modalities": [_modality_json(modality) for modality in manifest.modalities],
        "subsets": {
            key: {"temperature": spec.temperature, "prior": list(spec.prior)}
            for key, spec in manifest.subsets.items()
        },
        "engines": {key: dict(variants) for key, variants in manifest.engines.items()},
        "stems": {key: dict(variants) for key, variants in manifest.stems.items()},
        "files": {
            name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in manifest.files.items()
        },
        "weights": {name: sorted(files) for name, files in manifest.weights.items() if files},
        "reference": manifest.reference,
        "recipe": manifest.recipe,
        "thresholds": dict(manifest.thresholds),
        "provenance": provenance_json(manifest.provenance),
        "licence": {
            "weights": manifest.licence.weights,
            "non_commercial": manifest.licence.non_commercial,
            "notice": manifest.licence.notice,
        },
    }
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")


def check_format_version(top: Fields, known: int | tuple[int, ...], what: str) -> int:
    """Returns ``format_version`` of ``top``; raises `FormatVersionError` unless it is ``known``.

    Args:
        top: the whole file.
        known: the version or versions that this code reads.
        what: ``"bundle"`` or ``"checkpoint"``, for the message.
    """
    version = top.value("format_version")
    versions = (known,) if isinstance(known, int) else known
    if type(version) is not int or version not in versions:
        raise FormatVersionError(
            f"{top.where}: this {what} has format version {version!r}; this edgeemo reads version "
            f"{' and '.join(map(str, versions))}. Use an edgeemo that knows it, or make the {what} again"
        )
    return version


def hop_from_fields(top: Fields) -> float:
    """Returns ``hop_s``; raises the reader's error where no session could keep it."""
    hop_s = top.number("hop_s")
    low, high = HOP_S
    if not low <= hop_s <= high:
        top.fail(f"'hop_s' is {hop_s:g}; expected {low:g}..{high:g} seconds from one reading to the next")
    return hop_s


def check_file_name(name: str, where: str, error: type[EdgeEmoError]) -> str:
    """Returns ``name`` if it is a plain relative path that stays inside its folder.

    Raises:
        error: the name is empty, absolute, has ``..``, a backslash, a colon or a control character.
    """
    parts = name.split("/")
    odd = any(ord(letter) < 32 or letter in "\\:" for letter in name)
    if odd or PurePosixPath(name).is_absolute() or any(part in ("", ".", "..") for part in parts):
        raise error(
            f"{where}: the file name {name!r} is refused; expected a relative path with forward slashes "
            "that stays inside the folder"
        )
    return name


def modality_from_fields(entry: Fields, extra_stem_keys: tuple[str, ...] = ()) -> ModalitySpec:
    """Returns one modality; raises the reader's error where a number or a name cannot be used.

    Args:
        entry: the modality's object.
        extra_stem_keys: further texts that its ``stem`` holds there (a checkpoint's ``graph``).
    """
    name = entry.text("name")
    if not _NAME.fullmatch(name):
        entry.fail(f"the modality name {name!r} must be lower-case letters, digits and underscores")
    front_end = entry.value("front_end")
    entry.fields("front_end").text("kind")
    if not isinstance(front_end, dict):
        entry.fail("'front_end' must be an object")
    window, stem = entry.fields("window"), entry.fields("stem")
    spec = ModalitySpec(
        name=name,
        front_end=dict(front_end),
        feature_width=entry.integer("feature_width", low=1, high=1 << 16),
        window=WindowSpec(
            length=window.integer("length", low=1, high=1 << 16),
            period_s=window.number("period_s", low=0.0),
            window_s=window.number("window_s", above=0.0),
        ),
        stem=StemSpec(
            stride=stem.integer("stride", low=1, high=1 << 16),
            left_context=stem.integer("left_context", low=0, high=1 << 20),
            block=stem.integer("block", low=1, high=1 << 20),
            scope=stem.text("scope", choices=SCOPES),
            item_shape=stem.integers("item_shape", low=1, high=1 << 16),
            dtype=stem.text("dtype", choices=ITEM_TYPES),
        ),
    )
    for key in extra_stem_keys:
        stem.text(key)
    for part in (window, stem, entry):
        part.finish()
    if spec.stem.block % spec.stem.stride:
        stem.fail(f"a block of {spec.stem.block} items is no multiple of the stride {spec.stem.stride}")
    if spec.stem.scope == "window" and spec.stem.features_per_block != spec.window.length:
        stem.fail(
            f"a window stem of {spec.stem.features_per_block} features does not fill "
            f"a window of {spec.window.length} positions"
        )
    return spec


def subset_from_fields(entry: Fields, label_count: int) -> SubsetSpec:
    """Returns temperature and prior of one subset; does not call `Fields.finish`."""
    spec = SubsetSpec(
        temperature=entry.number("temperature", above=0.0), prior=entry.numbers("prior", above=0.0)
    )
    if len(spec.prior) != label_count:
        entry.fail(f"'prior' has {len(spec.prior)} numbers; expected one for each of {label_count} labels")
    if abs(sum(spec.prior) - 1.0) > _PRIOR_TOLERANCE:
        entry.fail(f"'prior' sums to {sum(spec.prior):.6f}; expected 1")
    return spec


def subsets_from_fields(entry: Fields, order: tuple[str, ...], label_count: int) -> dict[str, SubsetSpec]:
    """Returns the subsets in canonical order, each with temperature and prior and nothing else."""
    found: dict[str, SubsetSpec] = {}
    for key in canonical_keys(entry, order):
        fields = entry.fields(key)
        found[key] = subset_from_fields(fields, label_count)
        fields.finish()
    return found


def canonical_keys(entry: Fields, order: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the keys of a map of subsets in canonical order; raises for keys that are no subset."""
    for name in entry.names():
        try:
            known = subset_key(subset_members(name), order) == name
        except SubsetError:
            known = False
        if not known:
            entry.fail(f"{name!r} is no subset of {', '.join(order)} in canonical order")
    rank = {name: position for position, name in enumerate(order)}
    return tuple(
        sorted(entry.names(), key=lambda key: (key.count("+"), [rank[m] for m in subset_members(key)]))
    )


def licence_from_fields(entry: Fields) -> Licence:
    """Returns the licence; raises the reader's error for anything missing or unknown."""
    licence = Licence(
        weights=entry.text("weights"),
        non_commercial=entry.flag("non_commercial"),
        notice=entry.text("notice"),
    )
    entry.finish()
    return licence


def _variants(entry: Fields, keys: tuple[str, ...]) -> dict[str, dict[str, str]]:
    unknown = sorted(set(entry.names()) - set(keys))
    if unknown:
        entry.fail(f"unknown {', '.join(map(repr, unknown))}; possible here: {', '.join(keys)}")
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        if key not in entry.names():
            continue
        variants = entry.fields(key)
        for name in variants.names():
            if not _VARIANT.fullmatch(name):
                variants.fail(f"the variant name {name!r} must be lower-case letters, digits and hyphens")
        found[key] = {name: variants.text(name) for name in sorted(variants.names())}
        if not found[key]:
            variants.fail("has no variant; expected at least one")
    return found


def _files(entry: Fields) -> dict[str, FileEntry]:
    found: dict[str, FileEntry] = {}
    for name in sorted(entry.names()):
        check_file_name(name, entry.where, entry.error)
        fields = entry.fields(name)
        found[name] = FileEntry(
            bytes=fields.integer("bytes", low=0), sha256=sha256_from_fields(fields, "sha256")
        )
        fields.finish()
    return found


def _numbers(entry: Fields) -> dict[str, float]:
    return {name: entry.number(name) for name in sorted(entry.names())}


def _modality_json(modality: ModalitySpec) -> dict[str, object]:
    window, stem = modality.window, modality.stem
    return {
        "name": modality.name,
        "front_end": dict(modality.front_end),
        "feature_width": modality.feature_width,
        "window": {"length": window.length, "period_s": window.period_s, "window_s": window.window_s},
        "stem": {
            "stride": stem.stride,
            "left_context": stem.left_context,
            "block": stem.block,
            "scope": stem.scope,
            "item_shape": list(stem.item_shape),
            "dtype": stem.dtype,
        },
    }
