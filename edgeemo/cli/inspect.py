"""``edgeemo inspect``: what a bundle or a checkpoint is, where its bytes go, and under which terms."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeemo.errors import InputError

if TYPE_CHECKING:
    from edgeemo.bundle import Bundle, Licence, ModalitySpec
    from edgeemo.export import Checkpoint


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("inspect", help="what a bundle or checkpoint holds")
    parser.add_argument("path", metavar="BUNDLE|CHECKPOINT", nargs="?", help="default: the bundle that ships")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Checks the folder, file by file, and prints what it says."""
    from edgeemo.bundle import Bundle
    from edgeemo.session.session import DEFAULT_BUNDLE

    path = Path(args.path or DEFAULT_BUNDLE)
    if (path / "checkpoint.json").is_file():
        from edgeemo.export import Checkpoint

        checkpoint = Checkpoint.open(path)
        document, lines = _checkpoint_document(checkpoint), _checkpoint_lines(checkpoint)
    elif (path / "manifest.json").is_file():
        bundle = Bundle.open(path)
        bundle.verify()
        document, lines = _bundle_document(bundle), _bundle_lines(bundle)
    else:
        raise InputError(
            f"{path} is neither a bundle (no manifest.json) nor a checkpoint (no checkpoint.json)"
        )
    print(json.dumps(document, indent=1) if args.json else "\n".join(lines))
    return 0


def _bundle_document(bundle: Bundle) -> dict[str, object]:
    manifest = asdict(bundle.manifest)
    manifest.pop("files")

    def sized(groups: Mapping[str, Mapping[str, str]]) -> dict[str, object]:
        files = bundle.manifest.files
        return {
            name: {variant: {"file": file, **asdict(files[file])} for variant, file in variants.items()}
            for name, variants in groups.items()
        }

    return {
        "kind": "bundle",
        "path": str(bundle.path),
        **manifest,
        "engines": sized(bundle.manifest.engines),
        "stems": sized(bundle.manifest.stems),
        "total_bytes": sum(entry.bytes for entry in bundle.manifest.files.values()),
        "manifest_sha256": bundle.manifest_sha256,
        "report": bundle.report(),
    }


def _bundle_lines(bundle: Bundle) -> list[str]:
    manifest = bundle.manifest
    total = sum(entry.bytes for entry in manifest.files.values())
    lines = [repr(bundle), "", *_modality_lines(manifest.modalities), ""]
    names = [f"stem of {name}" for name in manifest.stems] + [f"engine {key}" for key in manifest.engines]
    groups = [*manifest.stems.values(), *manifest.engines.values()]
    variants = sorted({variant for group in groups for variant in group})
    width = max(len(name) for name in names)
    lines.append(f"{'size in kB':<{width}}" + "".join(f"{variant:>10}" for variant in variants))
    for name, group in zip(names, groups, strict=True):
        sizes = (
            f"{manifest.files[group[variant]].bytes / 1e3:10.1f}" if variant in group else f"{'-':>10}"
            for variant in variants
        )
        lines.append(f"{name:<{width}}" + "".join(sizes))
    lines.append(f"{'all files':<{width}}{total / 1e3:10.1f}")
    made = manifest.provenance
    versions = ", ".join(f"{name} {version}" for name, version in made.packages.items())
    base = made.checkpoint.get("model.safetensors", "")
    lines += [
        "",
        f"made from: base weights {base[:12] or 'unknown'}, {len(made.checkpoint)} checkpoint files, by "
        f"exporter {made.exporter} with {versions}; opset {made.opset}, IR {made.ir_version}",
        "every file has the size and SHA-256 that the manifest promises",
        *_licence_lines(manifest.licence),
    ]
    return lines


def _checkpoint_document(checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "kind": "checkpoint",
        "path": str(checkpoint.path),
        "model_id": checkpoint.model_id,
        "family": checkpoint.family,
        "labels": list(checkpoint.labels),
        "hop_s": checkpoint.hop_s,
        "modalities": [asdict(modality) for modality in checkpoint.modalities],
        "subsets": {key: asdict(spec) for key, spec in checkpoint.subsets.items()},
        "parameters": _parameter_counts(checkpoint),
        "data": [dict(entry) for entry in checkpoint.data],
        "metrics": checkpoint.metrics,
        "licence": asdict(checkpoint.licence),
        "files": dict(checkpoint.files),
    }


def _checkpoint_lines(checkpoint: Checkpoint) -> list[str]:
    counts = _parameter_counts(checkpoint)
    width = max(len(name) for name in counts)
    data = ", ".join(entry.get("name", "unnamed") for entry in checkpoint.data)
    return [
        repr(checkpoint),
        "",
        *_modality_lines(checkpoint.modalities),
        "",
        *(f"{name:<{width}} {count:>10,} parameters" for name, count in counts.items()),
        "",
        f"trained on: {data or 'not said'}",
        *_licence_lines(checkpoint.licence),
    ]


def _parameter_counts(checkpoint: Checkpoint) -> dict[str, int]:
    """Returns how many numbers each part of the network and each adapter has."""
    counts: dict[str, int] = {}
    for name, weight in checkpoint.weights.items():
        parts = name.split(".")
        part = ".".join(parts[:2]) if parts[0] == "stem" else parts[0]
        counts[part] = counts.get(part, 0) + weight.size
    for name, adapter in checkpoint.adapters.items():
        counts[f"adapter {name}"] = sum(pair.a.size + pair.b.size for pair in adapter.pairs.values())
    return counts


def _modality_lines(modalities: tuple[ModalitySpec, ...]) -> list[str]:
    lines = []
    for modality in modalities:
        stem, window = modality.stem, modality.window
        shape = "x".join(map(str, stem.item_shape))
        clock = f" every {window.period_s:g} s" if window.period_s else ""
        lines.append(
            f"{modality.name}: front-end {modality.front_end['kind']}, items {shape} {stem.dtype}; stem on "
            f"{'a whole window' if stem.scope == 'window' else f'blocks of {stem.block}'}; window of "
            f"{window.length} features{clock} over {window.window_s:g} s"
        )
    return lines


def _licence_lines(licence: Licence) -> list[str]:
    lines = [f"licence of the weights: {licence.weights}"]
    if licence.non_commercial:
        lines.append("NOT FOR COMMERCIAL USE")
    return [*lines, licence.notice]
