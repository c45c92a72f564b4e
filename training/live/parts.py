"""The three modalities of the live model as parts of a checkpoint: windows, blocks, inputs to check with.

Calibration inputs come from training data, with the augmentation on; only activation ranges are kept
of them. The examples that a checkpoint stores are synthetic and seeded: a made-up voice, a blob with
two eyes and a mouth, sentences of our own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.datasets.faces import read_ferplus
from edgeemo.datasets.text import READERS
from edgeemo.features.audio import log_mel
from edgeemo.features.face import FaceSpec, normalize_face
from edgeemo.features.text import TextSpec, tokenize
from edgeemo.training.augment.face import augment_faces
from edgeemo.training.augment.text import TextNoise, damage_words
from edgeemo.training.augment.voice import tilt_frames, warp_frames
from edgeemo.training.checkpoints.save import ModalityPart
from edgeemo.training.live.features import FACE_CORPUS, TEXT_CORPORA, VOICE_BLOCK, ids_from_words
from edgeemo.training.live.fit_voice import VoiceData
from edgeemo.training.stems.face import FEATURE_WIDTH as FACE_WIDTH
from edgeemo.training.stems.face import FaceStem
from edgeemo.training.stems.text import TextStem
from edgeemo.training.stems.voice import STRIDE, VoiceStem

VOICE_LENGTH, FACE_LENGTH = 40, 16  # positions in 4 s
CALIBRATION_BLOCKS = 512
EXAMPLES = 8

_SENTENCES = (
    "i am so happy that you came, this is the best day of my life!",
    "leave me alone... i do not want to talk about it",
    "what?! you did that without asking me? i am furious",
    "the train leaves at ten past nine from the second platform",
    "ugh, that smells disgusting, take it away please",
    "oh no, there is somebody in the house, i am scared :(",
    "wow!! i did not expect that at all",
    "ok",
)


def voice_part(voices: VoiceData, stem: VoiceStem, *, seed: int = 0) -> ModalityPart:
    """Returns the audio modality: 4 s of features, one every 0.1 s, from blocks of half a second."""
    context = stem.left_context
    rng = np.random.default_rng([seed, 21])
    corpora = list(voices.train.values())
    blocks: list[NDArray[np.float32]] = []
    while len(blocks) < CALIBRATION_BLOCKS:
        frames = corpora[int(rng.integers(len(corpora)))]
        index, variant = int(rng.integers(len(frames.labels))), int(rng.integers(len(frames.offsets)))
        clip = tilt_frames(warp_frames(frames.clip(index, variant), rng), rng, range_db=voices.spec.range_db)
        blocks.append(_random_block(voices.normalized(clip), context, rng))
    sounds = [log_mel(_voice(rng), voices.spec) for _ in range(EXAMPLES)]
    examples = np.stack([_random_block(frames, context, rng) for frames in sounds])
    return ModalityPart(
        name="audio",
        front_end=voices.spec.to_json(),
        stem=stem,
        width=stem.project.out_channels,
        length=VOICE_LENGTH,
        period_s=STRIDE / voices.spec.frame_rate_hz,
        window_s=VOICE_LENGTH * STRIDE / voices.spec.frame_rate_hz,
        stride=STRIDE,
        left_context=context,
        block=VOICE_BLOCK,
        scope="stream",
        item_shape=(voices.spec.bands,),
        examples=examples,
        calibration=np.stack(blocks),
    )


def face_part(data: Path, stem: FaceStem, *, seed: int = 0) -> ModalityPart:
    """Returns the video modality: 4 s of features, one for each crop of 0.25 s."""
    spec = FaceSpec()
    rng = np.random.default_rng([seed, 22])
    faces = read_ferplus(data / FACE_CORPUS, "train").images
    chosen = faces[rng.choice(len(faces), size=min(CALIBRATION_BLOCKS, len(faces)), replace=False)]
    blobs = augment_faces(np.stack([_blob_face(rng, spec.size) for _ in range(EXAMPLES)]), rng)
    return ModalityPart(
        name="video",
        front_end=spec.to_json(),
        stem=stem,
        width=FACE_WIDTH,
        length=FACE_LENGTH,
        period_s=spec.period_s,
        window_s=FACE_LENGTH * spec.period_s,
        stride=1,
        left_context=0,
        block=1,
        scope="stream",
        item_shape=(spec.size, spec.size),
        examples=normalize_face(blobs)[:, None],
        calibration=normalize_face(augment_faces(chosen, rng))[:, None],
    )


def text_part(data: Path, stem: TextStem, *, seed: int = 0) -> ModalityPart:
    """Returns the text modality: the newest 32 words of 10 s, as one window."""
    spec: TextSpec = stem.spec
    rng = np.random.default_rng([seed, 23])
    words: list[list[str]] = []
    for name in TEXT_CORPORA:
        texts = READERS[name](data / name, "train").texts
        for row in rng.choice(len(texts), size=min(CALIBRATION_BLOCKS // 3 + 1, len(texts)), replace=False):
            tokens = tokenize(texts[row])
            if tokens:
                words.append(damage_words(tokens, TextNoise(), rng))
    return ModalityPart(
        name="text",
        front_end=spec.to_json(),
        stem=stem,
        width=stem.width,
        length=spec.max_words,
        period_s=0.0,
        window_s=10.0,
        stride=1,
        left_context=0,
        block=spec.max_words,
        scope="window",
        item_shape=(spec.ids_per_word,),
        examples=ids_from_words([tokenize(text) for text in _SENTENCES], spec),
        calibration=ids_from_words(words, spec),
    )


def _random_block(
    frames: NDArray[np.float32], left_context: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Returns (left_context + block, bands) of a stream (T, bands), sometimes its first block."""
    stream = np.pad(frames, ((left_context, max(0, VOICE_BLOCK - len(frames))), (0, 0)))
    latest = len(stream) - left_context - VOICE_BLOCK
    start = 0 if rng.random() < 0.2 else int(rng.integers(0, latest + 1))
    return stream[start : start + left_context + VOICE_BLOCK]


def _voice(rng: np.random.Generator, *, rate: int = 16000) -> NDArray[np.float32]:
    """Returns 1.5 s that rise and fall like syllables: a gliding tone with overtones, and some noise."""
    time_s = np.arange(int(1.5 * rate)) / rate
    pitch_hz = rng.uniform(90, 260) * np.exp(0.2 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * time_s))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate
    tones = sum(np.sin(k * phase + rng.uniform(0, 6)) / k ** rng.uniform(0.7, 1.5) for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 5) * time_s + rng.uniform(0, 6)), 0, 1)
    sound = tones * syllables + rng.uniform(0.001, 0.05) * rng.standard_normal(len(time_s))
    scaled: NDArray[np.float32] = (0.3 * sound / np.abs(sound).max()).astype(np.float32)
    return scaled


def _blob_face(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Returns (size, size) grey levels: a bright oval with two dark eyes and a mouth."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    grey = 60 + 110 * np.exp(-((x / 0.75) ** 4) - (y / 0.95) ** 4)
    for side in (-1, 1):
        grey -= 70 * np.exp(-(((x - 0.35 * side) / 0.16) ** 2) - ((y + 0.25) / rng.uniform(0.06, 0.14)) ** 2)
    curve = y - 0.5 - rng.uniform(-0.4, 0.4) * x**2
    grey -= 60 * np.exp(-((x / rng.uniform(0.25, 0.4)) ** 2) - (curve / rng.uniform(0.05, 0.15)) ** 2)
    noisy: NDArray[np.uint8] = np.clip(grey + rng.normal(0, 4, grey.shape), 0, 255).astype(np.uint8)
    return noisy
