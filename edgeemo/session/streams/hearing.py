"""Whether what a microphone delivers can be used: the thresholds of a session on the figures of its sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeemo.quality.repeats import Repeats
from edgeemo.quality.sound import SoundBlock, SoundColumns, SoundQuality, is_voiced
from edgeemo.quality.voice import BLOCK_S
from edgeemo.session.settings import Settings
from edgeemo.session.states import State
from edgeemo.session.streams.base import USABLE, Usability
from edgeemo.windows import Float32

if TYPE_CHECKING:
    from edgeemo.session.streams.silero import SileroVoice

_NEWEST = round(0.5 / BLOCK_S)  # blocks in which clipping and repetition are looked for
_LATEST = round(1.0 / BLOCK_S)  # blocks in which noise may have drowned the voice
_DISTURBED_DB = 20.0  # what noise without any voice has above the room's own where it is no room's


class Hearing:
    """Judges a stream of samples at the model's rate, block by block.

    Args:
        rate_hz: samples a second.
        settings: thresholds.
        window_s: how far the engines look back; a voice counts for as long.

    Attributes:
        settings: the thresholds; what a voice is was decided when its samples came.
    """

    def __init__(self, rate_hz: int, settings: Settings, *, window_s: float) -> None:
        self._quality = SoundQuality(rate_hz)
        self._silero: SileroVoice | None = None
        if settings.voice_activity == "silero":
            from edgeemo.session.streams.silero import SileroVoice

            self._silero = SileroVoice(rate_hz)
        self._rate_hz, self.settings = rate_hz, settings
        self._window = round(window_s / BLOCK_S)
        self.reset(rate_hz)

    def reset(self, source_rate_hz: int) -> None:
        """Forgets everything: the next sample is the first of a device with this rate."""
        self._quality.reset()
        if self._silero is not None:
            self._silero.reset()
        self._repeats = Repeats(source_rate_hz)
        self._blocks = SoundColumns()
        self._voiced: list[bool] = []
        self._repeated: list[bool] = []
        self._dropped = 0  # blocks that nobody will ask for any more
        self._dropped_repeats = 0
        self._asked: tuple[Settings, int, int, int] | None = None
        self._answer = USABLE

    def push(self, samples: Float32) -> None:
        """Takes samples (N,) at the model's rate."""
        blocks = self._quality.push(samples)
        if self._silero is None:
            self.take(blocks)
        else:
            self._blocks.add(blocks)
            self._voiced.extend(self._silero.push(samples))

    def take(self, blocks: Sequence[SoundBlock]) -> None:
        """Takes the blocks of the next samples, where they have been measured already."""
        settings = self.settings
        self._blocks.add(blocks)
        self._voiced.extend(
            is_voiced(block, excess_db=settings.voice_excess_db, harmonicity=settings.voice_harmonicity)
            and block.level_dbfs >= settings.audio_quiet_dbfs
            for block in blocks
        )

    def push_raw(self, samples: Float32) -> None:
        """Takes the same samples (N,) as the device delivered them."""
        self._repeated.extend(self._repeats.push(samples))

    def drop(self, count: int) -> None:
        """Forgets blocks that no question up to block `count` needs."""
        old = min(count - self._window - self._dropped, len(self._blocks))
        if old > 0:
            self._blocks.drop(old)
            del self._voiced[:old]
            self._dropped += old
        old = min(count - self._window - self._dropped_repeats, len(self._repeated))
        if old > 0:
            del self._repeated[:old]
            self._dropped_repeats += old

    def usability(self, count: int, filled_s: float) -> Usability:
        """Judges the first `count` blocks.

        Args:
            count: blocks since the start.
            filled_s: seconds of sound in the engines' window.
        """
        stop = min(max(0, count - self._dropped), len(self._blocks))
        repeats = min(max(0, count - self._dropped_repeats), len(self._repeated))
        span = min(self._window, max(_LATEST, round(filled_s / BLOCK_S)))
        asked = self.settings, self._dropped + stop, self._dropped_repeats + repeats, span
        if asked != self._asked:  # else nothing has come since the last question
            self._asked, self._answer = asked, self._judge(stop, repeats, span)
        return self._answer

    def _judge(self, stop: int, repeats: int, span: int) -> Usability:
        """Judges the blocks that are kept up to `stop`, and the repeats; a voice in the last `span`."""
        settings, blocks = self.settings, self._blocks
        if not stop:
            return Usability(State.QUIET, "the first sound has not arrived yet")
        recent = slice(max(0, stop - max(1, round(settings.quiet_after_s / BLOCK_S))), stop)
        if not blocks.peaks[stop - 1] and not any(blocks.peaks[recent]):
            return Usability(State.QUIET, "exact zeros: the device delivers no sound")
        if any(self._repeated[max(0, repeats - _NEWEST) : repeats]):
            return Usability(State.POOR, "the same sound again and again: the device or its driver is stuck")
        newest = blocks.clipped[max(0, stop - _NEWEST) : stop]
        clipped = sum(newest) / len(newest)
        if clipped > settings.audio_clipped:
            return Usability(
                State.POOR, f"clipped: {clipped:.0%} of the samples are at full scale; lower the gain"
            )
        if settings.voice_activity == "off":
            return self._loud_enough(recent)
        return self._drowned(stop) or self._covered(stop) or self._humming(stop) or self._spoken(stop, span)

    def _loud_enough(self, recent: slice) -> Usability:
        loudest, limit = max(self._blocks.levels[recent]), self.settings.audio_quiet_dbfs
        if loudest < limit:
            return Usability(State.QUIET, f"silence: {loudest:.1f} dBFS, sound begins at {limit:.1f}")
        return USABLE

    def _drowned(self, stop: int) -> Usability | None:
        """Poor where the last second is nobody's voice and louder than the voice before it, if any."""
        latest = slice(stop - _LATEST, stop)
        if stop < _LATEST or sum(self._voiced[latest]) > 1:
            return None
        window = slice(max(0, stop - self._window), stop)
        pairs = zip(self._blocks.levels[window], self._voiced[window], strict=True)
        voices = sorted([level for level, voice in pairs if voice])
        noise = sorted(self._blocks.levels[latest])[_LATEST // 2]
        if len(voices) * BLOCK_S < self.settings.voice_least_s - 1e-9:
            excess = sorted(self._blocks.excesses[latest])[_LATEST // 2]
            why = f"noise: {noise:.0f} dBFS, {excess:.0f} dB above the room's own, and no voice"
            return Usability(State.POOR, why) if excess >= _DISTURBED_DB else None
        lead = noise - voices[len(voices) // 2]
        if lead < self.settings.audio_drowned_db:
            return None
        return Usability(
            State.POOR, f"noise: {noise:.0f} dBFS without a voice, {lead:.0f} dB above the voice before"
        )

    def _spoken(self, stop: int, span: int) -> Usability:
        """Quiet without a voice in the engines' window, poor where something else covers it."""
        settings = self.settings
        spoken = slice(max(0, stop - span), stop)
        figures = self._blocks.compare(spoken, self._voiced[spoken])
        if figures.voiced_s < settings.voice_least_s - 1e-9:
            return Usability(State.QUIET, f"no voice: the room's noise at {figures.noise_dbfs:.0f} dBFS")
        if figures.lead_db < settings.audio_lead_db:
            return Usability(
                State.POOR,
                f"noise: the voice is only {figures.lead_db:.1f} dB above {figures.noise_dbfs:.0f} dBFS",
            )
        return USABLE

    def _humming(self, stop: int) -> Usability | None:
        """Poor where hum is as loud as the voice; asks a whole window, or one loud word would do."""
        settings, window = self.settings, slice(max(0, stop - self._window), stop)
        hum = max(self._blocks.hums[window])
        if hum < settings.audio_hum:
            return None
        figures = self._blocks.compare(window, self._voiced[window])
        if figures.voiced_s < settings.voice_least_s - 1e-9 or figures.lead_db >= settings.audio_hum_lead_db:
            return None
        return Usability(
            State.POOR,
            f"hum: up to {hum:.0%} of the sound is mains hum, the voice only {figures.lead_db:.1f} dB above "
            "it; check cable and ground",
            spoils=False,
        )

    def _covered(self, stop: int) -> Usability | None:
        """Poor where others talk all the time; asks a whole window, for nobody pauses in every second."""
        settings = self.settings
        window = slice(stop - self._window, stop)
        if stop < self._window or sum(self._voiced[window]) * BLOCK_S < settings.voice_least_s - 1e-9:
            return None
        if self._blocks.above_room_db(window) < settings.audio_crowd_db:  # mostly so, and quick to know
            return None
        behind = self._blocks.background(window)
        if behind.range_db >= settings.audio_crowd_range_db:
            return None
        return Usability(
            State.POOR,
            f"several voices: only {behind.range_db:.0f} dB between loud and quiet, and the quiet "
            f"{behind.above_db:.0f} dB above the room's noise",
            spoils=False,
        )
