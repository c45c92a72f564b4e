"""Settings come from the bundle, and an application changes the few that it cares about."""

from __future__ import annotations

import pytest

from edgeemo.cli.main import main
from edgeemo.cli.options.values import setting
from edgeemo.errors import InputError, SensorError
from edgeemo.session import EngineOptions, Session, Settings
from edgeemo.session.settings import settings_from_thresholds, settings_with

WORDS = EngineOptions(subsets=("text",), variant="int8")


def test_a_session_changes_single_settings_of_its_bundle() -> None:
    with Session(engines=WORDS) as own, Session(engines=WORDS, settings={"hop_s": 0.25}) as changed:
        assert own.hop_s == own.manifest.hop_s
        assert changed.hop_s == 0.25
    base = settings_from_thresholds({"audio_clipped": 0.125, "max_changed_labels": 0.02})
    assert base.audio_clipped == 0.125
    assert settings_with(base, {"hold_s": 1, "face_model": None}).audio_clipped == 0.125
    assert settings_with(base, {"hold_s": 1}).hold_s == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hops": 1}, "no setting 'hops'; there are: .*hop_s"),
        ({"hold_s": "soon"}, "hold_s must be a float, got 'soon'"),
        ({"hold_s": True}, "hold_s"),
        ({"hold_s": -1.0}, "at least 0"),
        ({"hold_s": None}, "hold_s must be a float, got None"),
        ({"max_faces": 1.5}, "max_faces must be a int"),
        ({"face_policy": "oldest"}, "face_policy|policy"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings_with(Settings(), changes)


def test_settings_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert setting("hop_s=0.25") == ("hop_s", 0.25)
    assert setting("max_faces=2") == ("max_faces", 2)
    assert setting("face_model=none") == ("face_model", None)
    assert setting("face_policy=largest") == ("face_policy", "largest")
    with pytest.raises(SystemExit):
        main(["run", "--set", "hop_s"])
    assert "NAME=VALUE" in capsys.readouterr().err


def test_sensors_by_word() -> None:
    with Session(sensors=["stdin"], engines=WORDS) as session:
        assert "text" in repr(session)
    with pytest.raises(SensorError, match="smell"):
        Session(sensors=["smell"], engines=WORDS)


def test_a_notice_that_nobody_can_acknowledge_opens_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--mic", "none", "--camera", "none", "--text", "stdin"]
    assert main(["run", *options, "--notice", "This machine reads your words."]) == 1
    told = capsys.readouterr().err
    assert "This machine reads your words." in told
    assert "not acknowledged" in told
