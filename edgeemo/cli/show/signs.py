"""One sign for each state of a modality, and one for modalities that contradict each other."""

from __future__ import annotations

from edgeemo.session import State

SIGNS = {
    State.LIVE: "●",
    State.QUIET: "○",
    State.POOR: "◐",
    State.LOST: "✕",
    State.MUTED: "⊘",
    State.ABSENT: "·",
}
CONTRADICTION = "≠"
