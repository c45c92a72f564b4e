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
    Provenance,
    StemSpec,
    SubsetSpec,
    WindowSpec,
)
from edgeemo.errors import BundleError, EdgeEmoError, FormatVersionError, SubsetError
from edgeemo.modality import subset_key, subset_members

FORMAT_VERSION = 1
MAX_MODALITIES = 16
HOP_S = (0.05, 60.0)
SCOPES = ("stream", "window")
ITEM_TYPES = ("float32", "int64")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VARIANT = re.compile(r"[a-z][a-z0-9-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
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
    check_format_version(top, FORMAT_VERSION, "bundle")
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
        provenance=_provenance(top.fields("provenance")),
        licence=licence_from_fields(top.fields("licence")),
        reference=None if top.value("reference") is None else top.text("reference"),
        thresholds=_numbers(top.fields("thresholds")),
    )
    top.finish()
    _check_links(manifest, top)
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
        "reference": manifest.reference,
        "thresholds": dict(manifest.thresholds),
        "provenance": {
            "checkpoint": dict(manifest.provenance.checkpoint),
            "packages": dict(manifest.provenance.packages),
            "exporter": manifest.provenance.exporter,
            "opset": manifest.provenance.opset,
            "ir_version": manifest.provenance.ir_version,
        },
        "licence": {
            "weights": manifest.licence.weights,
            "non_commercial": manifest.licence.non_commercial,
            "notice": manifest.licence.notice,
        },
    }
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")


def check_format_version(top: Fields, known: int, what: str) -> None:
    """Raises `FormatVersionError` unless ``format_version`` of ``top`` is ``known``.

    Args:
        top: the whole file.
        known: the version that this code reads.
        what: ``"bundle"`` or ``"checkpoint"``, for the message.
    """
    version = top.value("format_version")
    if type(version) is not int or version != known:
        raise FormatVersionError(
            f"{top.where}: this {what} has format version {version!r}; this edgeemo reads version {known}. "
            f"Use an edgeemo that knows it, or make the {what} again"
        )


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
        found[name] = FileEntry(bytes=fields.integer("bytes", low=0), sha256=_sha256(fields, "sha256"))
        fields.finish()
    return found


def _provenance(entry: Fields) -> Provenance:
    checkpoint, packages = entry.fields("checkpoint"), entry.fields("packages")
    found = Provenance(
        checkpoint={name: _sha256(checkpoint, name) for name in sorted(checkpoint.names())},
        packages={name: packages.text(name) for name in sorted(packages.names())},
        exporter=entry.text("exporter"),
        opset=entry.integer("opset", low=1),
        ir_version=entry.integer("ir_version", low=1),
    )
    entry.finish()
    return found


def _sha256(entry: Fields, key: str) -> str:
    text = entry.text(key)
    if not _SHA256.fullmatch(text):
        entry.fail(f"{key!r} must be 64 lower-case hexadecimal digits, found {text[:80]!r}")
    return text


def _numbers(entry: Fields) -> dict[str, float]:
    return {name: entry.number(name) for name in sorted(entry.names())}


def _check_links(manifest: Manifest, top: Fields) -> None:
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
    named = [
        name for group in (manifest.engines, manifest.stems) for v in group.values() for name in v.values()
    ]
    if manifest.reference is not None:
        named.append(manifest.reference)
    missing = sorted(set(named) - set(manifest.files))
    if missing:
        top.fail(f"{missing[0]!r} is named but has no size and hash under 'files'")
    unused = sorted(set(manifest.files) - set(named))
    if unused:
        top.fail(f"{unused[0]!r} is listed under 'files' but nothing refers to it")


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
