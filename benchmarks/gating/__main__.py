"""``python -m benchmarks.gating --data DIR``: writes ``benchmarks/gating/results/{sound,pictures}.*``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from benchmarks.gating import pictures, sound, voices
from benchmarks.gating.picture_tables import picture_report
from benchmarks.gating.plots import plot_sound
from benchmarks.report import Report, write_report
from edgeemo.bundle import Bundle
from edgeemo.session.settings import Settings, settings_from_thresholds
from edgeemo.shipped import DEFAULT_BUNDLE

RESULTS = Path(__file__).resolve().parent / "results"
PARTS = ("sound", "pictures")


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gating", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: both")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the data sets")
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="default: the one that ships")
    parser.add_argument("--checkpoint", type=Path, help="takes the thresholds of this one, not the bundle's")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/gating/results")
    parser.add_argument("--per-label", type=int, default=sound.PER_LABEL, help="items of each label")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    bundle = Bundle.open(args.bundle)
    settings = _settings(bundle, args.checkpoint)
    args.out.mkdir(parents=True, exist_ok=True)
    for part in args.parts or PARTS:
        if part == "sound":
            figures, tables = sound.measure(bundle, args.data, settings=settings, per_label=args.per_label)
            found, more = voices.measure(args.data, settings)
            figures = {**figures, "voices": found, "thresholds": _thresholds(settings)}
            plot_sound(figures, args.out / "sound.png")
            report = Report("sound", "Gates of sound", figures, [*tables, *more])
        else:
            report = picture_report(pictures.measure(bundle, args.data, settings=settings))
        write_report(report, bundle, folder=args.out)
        page = args.out / f"{part}.md"
        text = page.read_text(encoding="utf-8").replace("-m benchmarks ", "-m benchmarks.gating ")
        page.write_text(text, encoding="utf-8")
        print(text)
    return 0


def _settings(bundle: Bundle, checkpoint: Path | None) -> Settings:
    if checkpoint is None:
        return settings_from_thresholds(bundle.manifest.thresholds)
    content = json.loads((checkpoint / "checkpoint.json").read_text(encoding="utf-8"))
    return settings_from_thresholds(content.get("thresholds", {}))


def _thresholds(settings: Settings) -> dict[str, float]:
    names = [name for name in vars(settings) if name.startswith(("audio_", "voice_"))]
    return {name: getattr(settings, name) for name in names if name != "voice_activity"}


if __name__ == "__main__":
    sys.exit(main())
