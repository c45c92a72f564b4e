"""What a bundle holds and where every byte of it goes, as a document and as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from edgeemo.bundle import Bundle, Licence, ModalitySpec
from edgeemo.bundle.sizes import ENGINE, BundleSizes, GraphSizes, together


def bundle_document(bundle: Bundle, sizes: BundleSizes) -> dict[str, object]:
    """Returns what a bundle says of itself and what its files take, ready for JSON."""
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
        "total_bytes": sizes.listed,
        "sizes": {**asdict(sizes), "total": sizes.total},
        "together": {
            variant: {"engines": found[0], "largest_alone": found[1], "ratio": found[0] / found[1]}
            for variant in _variants(sizes)
            if (found := together(sizes, bundle, variant)) is not None
        },
        "manifest_sha256": bundle.manifest_sha256,
        "report": bundle.report(),
    }


def bundle_lines(bundle: Bundle, sizes: BundleSizes) -> list[str]:
    """Returns the same for people."""
    manifest = bundle.manifest
    made = manifest.provenance
    versions = ", ".join(f"{name} {version}" for name, version in made.packages.items())
    base = made.checkpoint.get("model.safetensors", "")
    return [
        repr(bundle),
        "",
        *modality_lines(manifest.modalities),
        "",
        *_graph_table(sizes.graphs),
        "",
        *_byte_lines(bundle, sizes),
        "",
        f"made from: base weights {base[:12] or 'unknown'}, {len(made.checkpoint)} checkpoint files, by "
        f"exporter {made.exporter} with {versions}; opset {made.opset}, IR {made.ir_version}"
        + (f", recipe {manifest.recipe}" if manifest.recipe else ""),
        *(
            f"updated since: {subset}, with {', '.join(update.files)}, by exporter {update.exporter}"
            for subset, update in made.updates.items()
        ),
        "every file has the size and SHA-256 that the manifest promises",
        *licence_lines(manifest.licence),
    ]


def _graph_table(graphs: tuple[GraphSizes, ...]) -> list[str]:
    """Returns a row for each graph: what is in its file, what it shares, what it would take alone."""
    titles = ("kB", "variant", "nodes", "numbers", "the rest", "file", "shared", "alone")
    rows = [
        (
            _title(graph),
            graph.variant,
            str(graph.nodes),
            *map(
                kilobytes,
                (
                    graph.file_bytes - graph.structure,
                    graph.structure,
                    graph.file_bytes,
                    graph.shared,
                    graph.alone,
                ),
            ),
        )
        for graph in graphs
    ]
    return columns((titles, *rows), left=2)


def _byte_lines(bundle: Bundle, sizes: BundleSizes) -> list[str]:
    stems = [graph for graph in sizes.graphs if graph.kind != ENGINE]
    engines = [graph for graph in sizes.graphs if graph.kind == ENGINE]
    rows: list[tuple[str, int, str]] = []
    for what, graphs in (("stems", stems), ("engines", engines)):
        numbers: dict[str, int] = {}
        for graph in graphs:
            for dtype, size in graph.tensors.items():
                numbers[dtype] = numbers.get(dtype, 0) + size
        rows += [(f"{what}: numbers, {dtype}", size, "") for dtype, size in sorted(numbers.items())]
        rows.append((f"{what}: operators, names, shapes", sum(graph.structure for graph in graphs), ""))
    rows += [(name, size, f"shared by {sizes.users[name]} graphs") for name, size in sizes.weights.items()]
    rows += [(name, size, "") for name, size in {**sizes.other, **sizes.unhashed}.items()]
    rows.append(("kept to roll back to", sizes.rollback, ""))
    rows.append(("files that are not of the bundle", sizes.foreign, ""))
    total = max(sizes.total, 1)
    lines = columns(
        [("where every byte goes", "bytes", "%", "")]
        + [(name, f"{size:,}", f"{100 * size / total:.1f}", note) for name, size, note in rows if size]
        + [("all", f"{sizes.total:,}", "100.0", "")],
        left=1,
    )
    for variant in _variants(sizes):
        if (found := together(sizes, bundle, variant)) is not None:
            count = sum(graph.variant == variant for graph in engines)
            ratio = f"{found[0] / found[1]:.2f} times the largest alone ({kilobytes(found[1])} kB)"
            lines.append(f"{count} {variant} engines take {kilobytes(found[0])} kB together, {ratio}")
    return lines


def _variants(sizes: BundleSizes) -> list[str]:
    return sorted({graph.variant for graph in sizes.graphs if graph.kind == ENGINE})


def _title(graph: GraphSizes) -> str:
    return f"engine {graph.name}" if graph.kind == ENGINE else f"stem of {graph.name}"


def kilobytes(size: int) -> str:
    """Returns a size in kB (1000 bytes) with one decimal."""
    return f"{size / 1e3:.1f}"


def columns(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Returns the rows as lines of a table; the first ``left`` columns are flush left."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def modality_lines(modalities: tuple[ModalitySpec, ...]) -> list[str]:
    """Returns a line for each modality: front-end, stem, window."""
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


def licence_lines(licence: Licence) -> list[str]:
    """Returns the terms of the weights."""
    lines = [f"licence of the weights: {licence.weights}"]
    if licence.non_commercial:
        lines.append("NOT FOR COMMERCIAL USE")
    return [*lines, licence.notice]
