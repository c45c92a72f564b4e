"""What differs between two bundles, as a document and as lines."""

from __future__ import annotations

from dataclasses import asdict

from edgeemo.bundle import Bundle
from edgeemo.bundle.compare import BundleChanges, GraphChange
from edgeemo.cli.show.bundle import kilobytes

_SHOWN = 8


def changes_document(before: Bundle, after: Bundle, changes: BundleChanges) -> dict[str, object]:
    """Returns what differs, ready for JSON."""
    return {
        "kind": "diff",
        "before": str(before.path),
        "after": str(after.path),
        "equal": changes.none,
        **asdict(changes),
    }


def changes_lines(before: Bundle, after: Bundle, changes: BundleChanges) -> list[str]:
    """Returns the same for people."""
    lines = [f"from {before!r}", f"to   {after!r}", ""]
    if changes.none:
        return [*lines, f"no difference: {changes.same} graphs are equal, and so is all that is said of them"]
    for field in changes.fields:
        lines.append(f"{field.field}: {_said(field.before)} -> {_said(field.after)}")
    if changes.fields:
        lines.append("")
    for graph in changes.graphs:
        lines += _graph_lines(graph)
    return [*lines, f"{changes.same} graphs are equal, {len(changes.graphs)} are not"]


def _graph_lines(graph: GraphChange) -> list[str]:
    title = f"{graph.graph}, {graph.variant}"
    if graph.bytes_before is None or graph.bytes_after is None:
        return [f"{title}: {'new' if graph.bytes_before is None else 'gone'}"]
    tensors = [f"{graph.tensors_same} tensors equal, {graph.tensors_changed} changed"]
    if graph.largest_change:
        tensors.append(f"by up to {100 * graph.largest_change:.3g} % of the largest number of the tensor")
    lines = [
        f"{title}: {kilobytes(graph.bytes_before)} -> {kilobytes(graph.bytes_after)} kB alone; "
        + " ".join(tensors)
    ]
    lines += [f"  {name}: {old} -> {new} nodes" for name, (old, new) in graph.operators.items()]
    for what, names in (("gone", graph.tensors_gone), ("new", graph.tensors_new)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            lines.append(f"  tensors {what}: {', '.join(names[:_SHOWN])}{more}")
    return lines


def _said(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
