"""A model repository for Triton, as ``edgeemo export --format triton`` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeemo.export.triton.repository import RepositoryReport


def repository_lines(report: RepositoryReport) -> list[str]:
    """Returns which ensemble serves which subset, and what was written."""
    rows = [
        ("subset", "from front-end features", "from features"),
        *((subset, model, report.from_features[subset]) for subset, model in report.ensembles.items()),
    ]
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(2)]
    lines = [f"{row[0]:<{widths[0]}}{row[1]:<{widths[1]}}{row[2]}" for row in rows]
    lines.append(
        f"{report.repository}: {report.model_id} as {report.variant} for Triton's {report.backend} backend, "
        f"{len(report.models)} models, {report.total_bytes / 1e6:.1f} MB"
    )
    return lines
