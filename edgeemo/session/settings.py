"""The numbers that decide when a modality counts as live, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from edgeemo.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Deadlines, fills and smoothing of a session; a manifest's thresholds override the defaults.

    Attributes:
        audio_deadline_s: silence of the *device* (no samples at all) after which audio is lost.
        video_deadline_s: time without a frame after which video is lost.
        audio_min_fill_s: how much of the audio window must be filled before audio joins.
        video_min_fill_s: how much of the video window must show a face before video joins.
        hold_s: how long a modality must have been usable before it joins; leaving is immediate.
        audio_quiet_dbfs: level of the loudest 50 ms below which the last second counts as silence. 99 % of
            RAVDESS's training clips, the quietest of the corpora, reach -47.7 dBFS.
        audio_clipped: part of the samples at full scale above which sound is not trusted.
        quiet_after_s: how long no sound or no face must be seen before the modality is quiet.
        video_dark_level: mean brightness (0 to 255) below which a frame counts as black.
        video_frozen_s: how long the same frame may repeat before it is not trusted.
        text_ttl_s: how long words count after they were said.
        emotion_margin: lead in probability that a new emotion needs to replace the shown one.
        mood_tau_s: time constant of the sustained mood.
        mood_margin: lead that another label needs to become the mood, as a part of `mood_tau_s`; below 1.
            With the defaults nothing shorter than 4.5 s changes the mood, which covers a facial expression
            (0.5 to 4 s), and a full change is the mood after 18 s; `Mood` has the formulas.
    """

    audio_deadline_s: float = 0.5
    video_deadline_s: float = 0.5
    audio_min_fill_s: float = 1.0
    video_min_fill_s: float = 0.5
    hold_s: float = 0.25
    audio_quiet_dbfs: float = -50.0
    audio_clipped: float = 0.02
    quiet_after_s: float = 1.0
    video_dark_level: float = 8.0
    video_frozen_s: float = 1.0
    text_ttl_s: float = 10.0
    emotion_margin: float = 0.1
    mood_tau_s: float = 20.0
    mood_margin: float = 0.2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "audio_quiet_dbfs" and not 0 <= value < float("inf"):
                raise InputError(f"{field.name} must be a finite number of at least 0, got {value}")
        if self.mood_margin >= 1:
            raise InputError(f"mood_margin must be below 1, got {self.mood_margin}; no lead is larger")
        if self.mood_tau_s == 0:
            raise InputError("mood_tau_s must be above 0")


def settings_from_thresholds(thresholds: Mapping[str, float]) -> Settings:
    """Returns the defaults with those replaced that a manifest names; other thresholds are not ours.

    Raises:
        InputError: a threshold is out of range.
    """
    known = {field.name for field in fields(Settings)}
    return replace(Settings(), **{name: value for name, value in thresholds.items() if name in known})
