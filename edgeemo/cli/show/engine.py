"""What one engine or stem is: inputs, outputs, operators, sizes and the precision of each part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgeemo.bundle import Bundle
from edgeemo.bundle.outline import outline_from_model
from edgeemo.bundle.precision import precision_map
from edgeemo.bundle.sizes import tensor_bytes
from edgeemo.cli.show.bundle import columns, kilobytes
from edgeemo.errors import InputError
from edgeemo.modality import parse_subset

STEM_PREFIX = "stem."


def engine_documents(bundle: Bundle, name: str, variant: str | None) -> list[dict[str, object]]:
    """Returns what an engine or stem is in each of its variants, ready for JSON.

    Args:
        bundle: where it lies.
        name: a subset, or ``stem.<modality>``.
        variant: only this one.

    Raises:
        SubsetError: no such engine or stem here.
        InputError: it has no such variant.
        BundleError: a file is not what the manifest promises.
    """
    if name.startswith(STEM_PREFIX):
        modality = bundle.manifest.modality(name.removeprefix(STEM_PREFIX)).name
        title, files = f"stem of {modality}", bundle.manifest.stems[modality]
    else:
        bundle.variants(name)  # refuses what is no subset, naming those there are
        subset = parse_subset(name, bundle.manifest.order)
        title, files = f"engine {subset}", bundle.manifest.engines[subset]
    if variant is not None and variant not in files:
        raise InputError(f"the {title} has no variant {variant!r}; it has: {', '.join(files)}")
    return [_document(bundle, title, key, file) for key, file in files.items() if variant in (None, key)]


def _document(bundle: Bundle, title: str, variant: str, file: str) -> dict[str, object]:
    graph = bundle.read_graph(file)
    outline = outline_from_model(graph.model)
    precision = precision_map(outline)
    return {
        "graph": title,
        "variant": variant,
        "file": file,
        "bytes": len(graph.model),
        "shared_bytes": sum(array.nbytes for array in graph.tensors.values()),
        "weights": list(bundle.manifest.weights.get(file, ())),
        "sha256": bundle.manifest.files[file].sha256,
        "opsets": outline.opsets,
        "ir_version": outline.ir_version,
        "inputs": [asdict(value) for value in outline.inputs],
        "outputs": [asdict(value) for value in outline.outputs],
        "operators": precision.operators,
        "moving_operators": precision.moving,
        "tensors": [
            {
                "name": weight.tensor.name,
                "dtype": weight.tensor.dtype,
                "shape": list(weight.tensor.shape),
                "bytes": tensor_bytes(weight.tensor),
                "shared": weight.tensor.external is not None,
                "used_by": list(weight.operators),
            }
            for weight in precision.weights
        ],
    }


def engine_lines(documents: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the same for people."""
    lines: list[str] = []
    for document in documents:
        opsets = ", ".join(f"{name} {version}" for name, version in document["opsets"].items())
        shared = document["shared_bytes"]
        lines += [
            f"{document['graph']}, {document['variant']}: {document['file']}, "
            f"{kilobytes(document['bytes'])} kB"
            + (f" and {kilobytes(shared)} kB shared in {', '.join(document['weights'])}" if shared else ""),
            f"operator sets {opsets}; IR {document['ir_version']}",
            *(f"  in   {_value(value)}" for value in document["inputs"]),
            *(f"  out  {_value(value)}" for value in document["outputs"]),
            "",
            *_operator_table(document["operators"]),
            "only moving or converting values: "
            + (
                ", ".join(f"{count} {name}" for name, count in document["moving_operators"].items()) or "none"
            ),
            "",
            *_tensor_table(document["tensors"]),
            "",
        ]
    return lines[:-1]


def _value(value: dict[str, Any]) -> str:
    return f"{value['name']} {value['dtype']} ({', '.join(map(str, value['shape']))})"


def _operator_table(operators: dict[str, dict[str, int]]) -> list[str]:
    kinds = sorted({kind for counts in operators.values() for kind in counts})
    rows = [("operators that compute in", *kinds)]
    for name, counts in sorted(operators.items(), key=lambda item: -sum(item[1].values())):
        rows.append((name, *(str(counts[kind]) if kind in counts else "-" for kind in kinds)))
    return columns(rows, left=1)


def _tensor_table(tensors: Sequence[dict[str, Any]]) -> list[str]:
    rows = [("weight", "used by", "where", "type", "shape", "kB")]
    rows += [
        (
            tensor["name"],
            " ".join(tensor["used_by"]) or "-",
            "shared" if tensor["shared"] else "own",
            tensor["dtype"],
            "x".join(map(str, tensor["shape"])),
            kilobytes(tensor["bytes"]),
        )
        for tensor in tensors
    ]
    return columns(rows, left=3)
