"""Sound: resampled, turned into log-mel frames, and through the stem in aligned blocks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle.manifest import ModalitySpec
from edgeemo.errors import InputError
from edgeemo.features.audio import LogMelSpec, LogMelStream, check_samples
from edgeemo.features.resample import Resampler
from edgeemo.quality.voice import BLOCK_S
from edgeemo.runtimes.base import Runner
from edgeemo.session.settings import Settings
from edgeemo.session.streams.base import Stream, Usability, check_time
from edgeemo.session.streams.hearing import Hearing
from edgeemo.windows import BlockBuffer, FeatureWindow, Float32

_JITTER_S = 0.1  # capture times of drivers wobble; less than this is not a gap
_BRIDGE_S = 0.3  # a shorter gap is filled with silence, a longer one starts the stream anew
_LEAD_S = 0.05  # blocks end this long before the hops, or a resampler's or driver's delay costs a whole hop
_GUARD_S = 0.02  # what was captured this short before a hop may not have come through the resampler yet


class AudioStream(Stream):
    """A microphone's or file's sound as a window of features.

    Args:
        spec: the modality as the manifest has it.
        stem: the stem's runner; its owner closes it.
        settings: levels and fills.
    """

    modality = "audio"

    def __init__(self, spec: ModalitySpec, stem: Runner, settings: Settings) -> None:
        self._front_end = LogMelSpec.from_json(spec.front_end)
        self._spec, self._stem, self._settings = spec, stem, settings
        self.deadline_s = settings.audio_deadline_s
        self._input, self._output = f"input.{spec.name}", f"features.{spec.name}"
        self._mel = LogMelStream(self._front_end)
        self._blocks = BlockBuffer(
            block=spec.stem.block, left_context=spec.stem.left_context, item_shape=spec.stem.item_shape
        )
        self._window = FeatureWindow(length=spec.window.length, width=spec.feature_width)
        self._hearing = Hearing(self._front_end.sample_rate_hz, settings, window_s=spec.window.window_s)
        self._per_block = spec.stem.features_per_block
        self._block_s = spec.stem.block * self._front_end.hop / self._front_end.sample_rate_hz
        self.reset()

    def reset(self) -> None:
        """Starts again as if nothing had ever been pushed."""
        self.newest_s, self.patience_s = None, 0.0
        self._last_push_s: float | None = None
        self._begin(0.0, rate_hz=0)

    def _begin(self, anchor_s: float, *, rate_hz: int) -> None:
        rate = self._front_end.sample_rate_hz
        self._resampler = Resampler(rate_hz, rate) if rate_hz and rate_hz != rate else None
        self._anchor_s, self._rate_hz = anchor_s, rate_hz
        self._pushed = 0  # samples at the source's rate since the anchor
        self._mel.reset()
        self._blocks.reset()
        self._window.clear()
        lead = round(_LEAD_S * rate / self._front_end.hop)
        self._blocks.push(np.zeros((lead, *self._spec.stem.item_shape), np.float32))
        self._start_s = anchor_s - lead * self._front_end.hop / rate
        self._hearing.reset(rate_hz or rate)

    def push(self, samples: NDArray[np.float32], *, rate_hz: int, time_s: float) -> None:
        """Takes samples (N,) mono float32 in [-1, 1], the first captured at `time_s`.

        A short gap in the time stamps is filled with silence, a long one or a new rate starts the
        stream anew with an empty window.

        Raises:
            InputError: the samples are not finite mono float32, the rate is not positive, or the time
                goes back; the stream is unchanged.
        """
        check_samples(samples)
        check_rate(rate_hz)
        check_time(self.modality, time_s, self._last_push_s)
        if self._last_push_s is None or rate_hz != self._rate_hz:
            self._begin(time_s, rate_hz=rate_hz)
        gap_s = time_s - (self._anchor_s + self._pushed / self._rate_hz)
        if gap_s > _BRIDGE_S:
            self._begin(time_s, rate_hz=rate_hz)
        elif gap_s > _JITTER_S:
            self._feed(np.zeros(round(gap_s * rate_hz), np.float32))
        elif gap_s < -_JITTER_S:
            self._anchor_s += gap_s
            self._start_s += gap_s  # the device's clock runs ahead of ours: move the time, keep the sound
        self._last_push_s = time_s
        self._feed(samples)
        # A push may come a little later than its samples say; the next one follows it all the same.
        self.newest_s = max(self._anchor_s + self._pushed / self._rate_hz, time_s)
        # An application that pushes and seldom reads must not make the buffers grow. No reading that is
        # still to come lies a whole window before these samples.
        self.advance(time_s - self._spec.window.window_s)

    def _feed(self, samples: Float32) -> None:
        self._pushed += len(samples)
        self._hearing.push_raw(samples)
        if self._resampler is not None:
            samples = self._resampler.push(samples)
        self._blocks.push(self._mel.push(samples))
        self._hearing.push(samples)

    def advance(self, at_s: float) -> None:
        """Runs the stem on every complete block captured before `at_s`."""
        rate, hop = self._front_end.sample_rate_hz, self._front_end.hop
        items = math.floor((at_s - _GUARD_S - self._start_s) * rate / hop)
        for block in self._blocks.take(up_to_item=items):
            features = self._stem.run({self._input: block[None]})[self._output][0]  # (n, D)
            self._window.put_all((self._blocks.taken - 1) * len(features), features)
        self._hearing.drop(self._heard(at_s))

    def _heard(self, at_s: float) -> int:
        """Returns the tenths of a second that were captured before `at_s`."""
        return max(0, math.floor((at_s - _GUARD_S - self._anchor_s) / BLOCK_S))

    def usability(self, at_s: float) -> Usability:
        """Quiet without a voice in the window, poor where it cannot be trusted; see `Hearing`."""
        return self._hearing.usability(self._heard(at_s), self.fill(at_s)[0])

    def fill(self, at_s: float) -> tuple[float, float]:
        """Returns the seconds of sound in the window and how many are needed."""
        filled = self._window.count(self._newest_slot()) * self._spec.window.period_s
        return filled, self._settings.audio_min_fill_s

    def window(self, at_s: float) -> tuple[Float32, Float32]:
        """Returns features (1, T, D) and mask (1, T), the newest complete block last."""
        return self._window.view(self._newest_slot())

    def evidence_s(self, at_s: float) -> float | None:
        """Returns the capture time at which the newest complete block ends."""
        if not self._window.count(self._newest_slot()):
            return None
        return self._start_s + self._blocks.taken * self._block_s

    def forget(self) -> None:
        """Empties the window; the front-end goes on, its state belongs to the device."""
        self._window.clear()

    def _newest_slot(self) -> int:
        return self._blocks.taken * self._per_block - 1


def check_rate(rate_hz: int) -> None:
    """Refuses what is not a positive whole number of samples a second.

    Raises:
        InputError: with the value.
    """
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, int | np.integer) or rate_hz <= 0:
        raise InputError(f"audio: rate_hz must be a positive whole number of Hz, got {rate_hz!r}")
