"""Makes heart_rate.csv, a made-up heart rate: calm, then startled at 15 s, then slowly calm again.

python samples/new_modality/make_heart_rate.py samples/new_modality/heart_rate.csv
"""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

SECONDS, CALM, PEAK, STARTLED_S, RECOVERY_S = 45, 66.0, 122.0, 15, 9.0


def main() -> None:
    """Writes one line a second, as a chest strap would give it."""
    rng = random.Random(0)  # noqa: S311 - made-up beats, no secret
    lines = ["# Made up by make_heart_rate.py; nobody's heart.", "time_s,bpm"]
    for second in range(SECONDS):
        since_s = second - STARTLED_S
        rise = 0.0 if since_s < 0 else min(1.0, since_s / 3) * math.exp(-max(0.0, since_s - 8) / RECOVERY_S)
        lines.append(f"{second},{CALM + (PEAK - CALM) * rise + rng.gauss(0.0, 1.2):.1f}")
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
