"""Curves of gated, not gated and oracle readings over the strength of the noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeemo.training.augment.noise import KINDS, RATIOS_DB

_LINES = {"open": "not gated", "gated": "gated", "never": "without sound", "oracle": "oracle"}
_STYLES = {"open": "o-", "gated": "s-", "never": ":", "oracle": "--"}


def plot_sound(figures: dict[str, Any], path: Path) -> None:
    """Draws one panel for each kind of noise.

    Args:
        figures: as `benchmarks.gating.sound.measure` returns them.
        path: of the PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(KINDS), figsize=(3.2 * len(KINDS), 3.4), sharey=True)
    rows = figures["all"]
    for panel, kind in zip(panels, KINDS, strict=True):
        names = ["clean", *(f"{kind} {ratio} dB" for ratio in RATIOS_DB)]
        for key, label in _LINES.items():
            values = [100 * rows[name][key] for name in names]
            panel.plot(range(len(names)), values, _STYLES[key], label=label, markersize=4)
        panel.set_title(kind)
        panel.set_xticks(range(len(names)), ["clean", *map(str, RATIOS_DB)])
        panel.set_xlabel("dB")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy, %")
    panels[-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
