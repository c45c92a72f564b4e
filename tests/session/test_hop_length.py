"""How often a session reads: as the model was made for, or as the application wants."""

from __future__ import annotations

from pathlib import Path

import pytest
from live_like import write_live_like

from edgeemo.errors import InputError
from edgeemo.session import EngineOptions, Session, Settings
from edgeemo.shipped import RECORDING


@pytest.mark.parametrize(("hop_s", "expected_s"), [(None, 0.5), (0.25, 0.25), (1.0, 1.0)])
def test_readings_come_as_often_as_asked(tmp_path: Path, hop_s: float | None, expected_s: float) -> None:
    bundle = write_live_like(tmp_path / "bundle")
    settings = Settings(hop_s=hop_s)
    with Session(
        bundle, media=RECORDING, engines=EngineOptions(variant="fp32"), settings=settings
    ) as session:
        times = [reading.time_s for reading, _ in zip(session, range(12), strict=False)]
    assert times == pytest.approx([expected_s * number for number in range(1, 13)])


@pytest.mark.parametrize("hop_s", [0.0, -0.5, float("inf"), float("nan")])
def test_no_time_between_readings_is_refused(hop_s: float) -> None:
    with pytest.raises(InputError, match="hop_s must be"):
        Settings(hop_s=hop_s)
