"""The numbers that decide when a modality counts as live, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from edgeemo.errors import InputError
from edgeemo.faces.policy import check_policy

LEAST_HOP_S = 0.01
"""More readings a second than a camera or an engine gives news for; far below it a session never ends."""
VOICE_ACTIVITIES = ("edgeemo", "silero", "off")
_WORDS = {"face_policy", "face_model", "voice_activity"}
_APPLICATIONS_OWN = _WORDS | {"max_faces"}  # no manifest can set them


@dataclass(frozen=True)
class Settings:
    """Deadlines, fills and smoothing of a session; a manifest's thresholds override the defaults.

    Attributes:
        audio_deadline_s: silence of the *device* (no samples at all) after which audio is lost.
        video_deadline_s: time without a frame after which video is lost.
        audio_min_fill_s: how much of the audio window must be filled before audio joins.
        video_min_fill_s: how much of the video window must show a face before video joins.
        hold_s: how long a modality must have been usable before it joins; leaving is immediate.
        suspect_s: how long a modality may be poor before its device is opened anew, once. Opening takes a
            device away for a second or so, which pays only where the trouble does not pass by itself.
        hop_s: seconds between readings; None for what the model was made for. Engines look at whole
            windows, so more readings a second are as good, newer, and cost as much each.
        voice_activity: what finds voices in sound: ``"edgeemo"``; ``"silero"``, where the package silero-vad
            is installed; or ``"off"``, which takes every sound for a voice.
        voice_excess_db: how far a tenth of a second must stand out of the room's noise to be a voice. This,
            the next two and `audio_crowd_db`, `audio_crowd_range_db`, `audio_hum_lead_db` and `audio_clipped`
            are fitted (`edgeemo.training.live.gates`): a voice is what finds most voices while rooms without
            one pass for a voice in 1 % of the readings; a limit is where leaving sound out began to pay
            beside a face and words. `benchmarks/gating` shows what they are worth on other people.
        voice_harmonicity: how clear a pitch it must have, 0 to 1.
        voice_least_s: seconds of voice that the engines' window must hold. A voice that has ended counts as
            long as the window holds it: it adds 6 to 8 points of accuracy up to 3.5 s later.
        audio_quiet_dbfs: level below which nothing is a voice: where the front-end's own range ends.
        audio_clipped: part of the samples at full scale above which sound is not trusted. Clipped voices
            help even with full scale 15 dB below them; 2 % cost 0.3 points over all noises, 80 % nothing.
        audio_drowned_db: how far a second of noise without a voice must lie above the voice before it to be
            a disturbance, such as an engine that starts. It costs 0.01 points beside a face and words, where
            the voice from before would still do; but such a reading would rest on noise more and more.
        audio_lead_db: how far the voice must lie above what else is in the window. Voices in steady noise
            help down to -10 dB, where none is found any more, so no larger limit gains anything.
        audio_hum: part of the sound that is mains hum above which hum is looked at.
        audio_hum_lead_db: how far the voice must then lie above it; hum louder than the voice costs 2 to 5
            points.
        audio_crowd_db: how far above the room's noise the background must be to be others' voices, which cost
            3 to 13 points.
        audio_crowd_range_db: how far loud moments must then lie above quiet ones; alone, a speaker pauses: in
            99 of 100 windows of 4 s by 12 dB or more, even without a pause longer than a fifth of a second.
        quiet_after_s: how long a device must deliver zeros, or no face be seen, before the modality is quiet.
        video_dark_level: mean brightness (0 to 255) below which a frame without a face counts as black.
        video_frozen_s: how long the same frame may repeat before it is not trusted.
        video_white_level: mean brightness above which a frame without a face counts as white.
        face_policy: whose face the reading is of where there are several, ``"largest"`` or
            ``"nearest_to_centre"``.
        face_model: path of a YuNet model, which finds every face and how it is turned; None for the
            detector that ships with edgeemo. It belongs to the machine, so no manifest can set it.
        max_faces: most faces that are read in a frame; it bounds the cost.
        face_min_side_px: side below which a face is too small. This and the thresholds of faces below are
            where a spoiled face of FER+ val began to do more harm than good beside voice and words
            (`edgeemo.training.live.picture_gates`); `benchmarks/gating` shows what they change.
        face_max_outside: part of the face beyond the edge of the frame above which it is cut off.
        face_min_contrast: standard deviation of the face's grey levels below which it is too dark or flat.
        face_max_burnt: part of the face that is white beyond detail above which it is overexposed.
        face_min_detail: `FaceQuality.detail` below which a face is blurred.
        face_max_noise: `FaceQuality.noise` above which there is more noise than face.
        face_max_yaw_deg: how far a face may be turned to the side; needs `face_model`.
        face_max_roll_deg: how far a head may be tilted; needs `face_model`.
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
    suspect_s: float = 10.0
    hop_s: float | None = None
    voice_activity: str = "edgeemo"
    voice_excess_db: float = 7.0
    voice_harmonicity: float = 0.2
    voice_least_s: float = 0.2
    audio_quiet_dbfs: float = -60.0
    audio_clipped: float = 0.8
    audio_drowned_db: float = 6.0
    audio_lead_db: float = 0.0
    audio_hum: float = 0.5
    audio_hum_lead_db: float = 2.0
    audio_crowd_db: float = 12.0
    audio_crowd_range_db: float = 10.0
    quiet_after_s: float = 1.0
    video_dark_level: float = 8.0
    video_frozen_s: float = 1.0
    video_white_level: float = 250.0
    face_policy: str = "largest"
    face_model: str | None = None
    max_faces: int = 4
    face_min_side_px: float = 5.43
    face_max_outside: float = 0.702
    face_min_contrast: float = 0.637
    face_max_burnt: float = 0.925
    face_min_detail: float = 0.0199
    face_max_noise: float = 2.98
    face_max_yaw_deg: float = 82.5
    face_max_roll_deg: float = 82.5
    text_ttl_s: float = 10.0
    emotion_margin: float = 0.1
    mood_tau_s: float = 20.0
    mood_margin: float = 0.2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _WORDS or (field.name == "hop_s" and value is None):
                continue
            if field.name != "audio_quiet_dbfs" and not 0 <= value < float("inf"):
                raise InputError(f"{field.name} must be a finite number of at least 0, got {value}")
        if self.mood_margin >= 1:
            raise InputError(f"mood_margin must be below 1, got {self.mood_margin}; no lead is larger")
        if self.hop_s is not None and 0 < self.hop_s < LEAST_HOP_S:
            raise InputError(f"hop_s must be at least {LEAST_HOP_S} s, got {self.hop_s}")
        for name in ("mood_tau_s", "hop_s", "max_faces"):
            if getattr(self, name) == 0:
                raise InputError(f"{name} must be above 0")
        check_policy(self.face_policy)
        if self.voice_activity not in VOICE_ACTIVITIES:
            raise InputError(
                f"voice_activity must be one of {', '.join(VOICE_ACTIVITIES)}, got {self.voice_activity!r}"
            )


def settings_from_thresholds(thresholds: Mapping[str, float]) -> Settings:
    """Returns the defaults with those replaced that a manifest names; other thresholds are not ours.

    Raises:
        InputError: a threshold is out of range.
    """
    known = {field.name for field in fields(Settings)} - _APPLICATIONS_OWN
    ours: dict[str, Any] = {name: value for name, value in thresholds.items() if name in known}
    return replace(Settings(), **ours)


def settings_with(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Returns the settings with some of them changed.

    Raises:
        InputError: a name that is none, or a value out of range or of another type.
    """
    known = {field.name: field for field in fields(Settings)}
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise InputError(f"there is no setting {unknown[0]!r}; there are: {', '.join(known)}")
    for name, value in changes.items():
        now = known[name].default
        wanted = str if name in _WORDS else int if isinstance(now, int) else float
        fits = isinstance(value, wanted | int) if wanted is float else isinstance(value, wanted)
        if isinstance(value, bool) or not (fits or (value is None and now is None)):
            raise InputError(f"{name} must be a {wanted.__name__}, got {value!r}")
    return replace(settings, **changes)
