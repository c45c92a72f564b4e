"""What can go wrong inside a modality, as far as utterance features can show it.

MOSI comes as one vector for each utterance and modality. So noise is noise on standardised features, a
broken video is one whose utterances are lost or repeat the one before, and words are deleted all at once,
an utterance at a time. Not possible here: noise in the sound itself, frames lost within an utterance, blur,
single words deleted; those need the recordings, and are measured on the live model.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLEAN = "clean"


@dataclass(frozen=True)
class Disturbance:
    """One condition.

    Attributes:
        modality: the one that is disturbed.
        kind: ``noise`` (strength = SNR in dB), ``lost`` or ``frozen`` (strength = share of utterances).
        strength: see ``kind``.
    """

    modality: str
    kind: str
    strength: float

    @property
    def name(self) -> str:
        """Such as ``"audio noise 10"``."""
        return f"{self.modality} {self.kind} {self.strength:g}"


DISTURBANCES = (
    *(Disturbance("audio", "noise", snr_db) for snr_db in (20.0, 10.0, 5.0, 0.0)),
    *(Disturbance("video", kind, share) for kind in ("lost", "frozen") for share in (0.25, 0.5, 0.75)),
    *(Disturbance("text", "lost", share) for share in (0.25, 0.5, 0.75)),
)


def disturb_features(
    features: Mapping[str, NDArray[np.float32]], mask: NDArray[np.float32], disturbance: Disturbance
) -> dict[str, NDArray[np.float32]]:
    """Returns the features under one condition; the same utterances suffer every time.

    Args:
        features: modality -> (V, T, D), standardised.
        mask: (V, T), 1 where there is an utterance.
        disturbance: ``noise`` adds Gaussian noise of power ``10^(-SNR/10)`` times the mean power of the
            modality; ``lost`` puts zeros (the mean of train) in place of some utterances; ``frozen``
            repeats the utterance before, where there is one.
    """
    rng = np.random.default_rng(zlib.crc32(disturbance.name.encode()))
    values = features[disturbance.modality]
    if disturbance.kind == "noise":
        power = float(np.square(values[mask > 0], dtype=np.float64).mean())
        deviation = (power * 10 ** (-disturbance.strength / 10)) ** 0.5
        changed = values + rng.normal(0, deviation, values.shape).astype(np.float32) * mask[..., None]
    else:
        hit = rng.random(mask.shape) < disturbance.strength  # (V, T)
        changed = values.copy()
        if disturbance.kind == "lost":
            changed[hit] = 0
        else:
            hit[:, 0] = False
            for step in range(1, values.shape[1]):  # in order, so that a freeze lasts
                rows = hit[:, step] & (mask[:, step] > 0)
                changed[rows, step] = changed[rows, step - 1]
    return {**features, disturbance.modality: changed.astype(np.float32)}


def missing_pattern_shares(rate: float, subsets: tuple[str, ...], modalities: int) -> NDArray[np.float64]:
    """Returns how often each subset is what is left when every modality goes missing with ``rate``.

    The draw is one for each video, and the empty one is drawn again: ``(1-r)^|k| r^(M-|k|) / (1 - r^M)``.

    Args:
        rate: in 0..1, below 1.
        subsets: all non-empty subsets.
        modalities: M.
    """
    sizes = np.array([subset.count("+") + 1 for subset in subsets])
    shares: NDArray[np.float64] = (1 - rate) ** sizes * rate ** (modalities - sizes) / (1 - rate**modalities)
    return shares
