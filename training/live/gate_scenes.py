"""Voices in rooms beside a face and words of the same label, read hop by hop with the voice and without it.

Everything is of the validation people, one half of them to fit thresholds on and the other to measure what
they are worth. The three of one item are of different people ("label-matched").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import Bundle, probabilities_from_logits
from edgeemo.datasets.faces import read_ferplus
from edgeemo.datasets.speech import SPEECH_CORPORA, read_speech
from edgeemo.datasets.text import READERS
from edgeemo.evaluation.windows import face_windows, text_windows
from edgeemo.quality.sound import SoundBlock, SoundQuality
from edgeemo.quality.voice import BLOCK_S
from edgeemo.runtimes import open_engine, open_stem
from edgeemo.session.settings import Settings
from edgeemo.session.streams.audio import AudioStream
from edgeemo.training.augment.noise import KINDS, Samples, Scene, scene
from edgeemo.training.augment.voice import trim_silence
from edgeemo.windows import Float32

RATE_HZ = 16000
CLEAN = ("clean", 40.0)
TAIL_S = 5.0  # of the room after the clip, until the voice has left the window
OPEN = Settings(voice_activity="off", audio_clipped=1.0, audio_quiet_dbfs=-300.0)
"""Thresholds that only a device without any sound crosses."""

_TEXTS = ("goemotions", "meld_text")
_RUNNING_S = 8.0  # every second item is of a person who hardly pauses for so long
_TALKERS = 30
_GUARD_S = 0.02


@dataclass(frozen=True)
class Item:
    """A clip, a face and a sentence under one label.

    Attributes:
        label: index.
        clip: (N,) speech at 16 kHz.
        face: (1, T, D) features of a face that stays in view.
        text: the sentence.
        words: (1, T, D) its features and (1, T) their mask.
        weight: share of the label in the prior of all three, over its share among the items.
    """

    label: int
    clip: Samples
    face: Float32
    text: str
    words: tuple[Float32, Float32]
    weight: float


@dataclass(frozen=True)
class HeardHop:
    """One reading in a scene.

    Attributes:
        kind: of the noise.
        ratio_db: of the voice to it.
        item: which item.
        blocks: tenths of a second heard so far, of `HeardScene.blocks`.
        since_s: seconds since the clip began; negative before it.
        after_s: seconds since it ended; negative before that.
        filled_s: seconds of sound in the window.
        with_voice: whether the reading with the voice is right.
        without: whether the reading without it is right.
    """

    kind: str
    ratio_db: float
    item: int
    blocks: int
    since_s: float
    after_s: float
    filled_s: float
    with_voice: bool
    without: bool


def matched_items(
    bundle: Bundle, data: Path, *, half: int, per_label: int, variant: str = "int8", seed: int = 0
) -> tuple[list[Item], list[Samples]]:
    """Returns items and clips to make babble of.

    Args:
        bundle: its stems make the windows of faces and words.
        data: holds the data sets.
        half: 0 for every second speaker, face and sentence of ``val`` and ``dev``, 1 for the others.
        per_label: items of each label.
        variant: of the stems.
        seed: of the choice.
    """
    rng = np.random.default_rng([seed, half, 41])
    manifest = bundle.manifest
    labels = np.repeat(np.arange(len(manifest.labels)), per_label)
    clips, talkers = _clips(data, labels, half, rng)
    faces = read_ferplus(data / "ferplus", "val")
    held = np.where(np.arange(len(faces)) % 2 == half, faces.label, -1)
    images = np.stack([faces.images[rng.choice(np.flatnonzero(held == label))] for label in labels])
    with open_stem(bundle, "video", variant=variant, backend="cpu") as stem:
        found = list(face_windows(images, manifest.modality("video"), stem))
    features = np.concatenate([batch.features for batch in found])
    texts = _texts(data, labels, half, rng)
    spec = manifest.modality("text")
    shape = (1, spec.window.length)
    words = [(np.zeros((*shape, spec.feature_width), np.float32), np.zeros(shape, np.float32))] * len(labels)
    with open_stem(bundle, "text", variant=variant, backend="cpu") as stem:
        for batch in text_windows(texts, spec, stem):
            for place, index in enumerate(batch.item):
                words[index] = batch.features[place : place + 1], batch.mask[place : place + 1]
    prior = manifest.subsets["audio+video+text"].prior
    items = [
        Item(
            int(label),
            clips[at],
            features[at : at + 1],
            texts[at],
            words[at],
            prior[label] * len(prior) / sum(prior),
        )
        for at, label in enumerate(labels)
    ]
    return items, talkers


def item_scene(
    item: Item, number: int, kind: str, ratio_db: float, talkers: Sequence[Samples], *, tail_s: float = TAIL_S
) -> Scene:
    """Returns item `number` in a room, the same whenever it is asked for."""
    rng = np.random.default_rng([number, 43])
    name = kind if kind in KINDS else "pink"
    return scene(item.clip, name, ratio_db, rng, talkers=talkers, tail_s=tail_s)


def heard_hops(
    bundle: Bundle,
    items: Sequence[Item],
    talkers: Sequence[Samples],
    conditions: Sequence[tuple[str, float]],
    *,
    variant: str = "int8",
) -> Iterator[tuple[list[SoundBlock], list[HeardHop]]]:
    """Yields the blocks and the hops of each item under each condition, through the session's own stream.

    Args:
        bundle: what reads.
        items: see `matched_items`.
        talkers: clips to make babble of.
        conditions: kind and ratio; the kind `CLEAN` names no noise.
        variant: of stem and engines.
    """
    manifest = bundle.manifest
    spec, hop_s = manifest.modality("audio"), manifest.hop_s
    with ExitStack() as opened:
        stem = opened.enter_context(open_stem(bundle, "audio", variant=variant, backend="cpu"))
        engines = {
            name: opened.enter_context(open_engine(bundle, name, variant=variant, backend="cpu"))
            for name in ("audio+video+text", "video+text")
        }

        def right(subset: str, feed: dict[str, Float32], label: int) -> bool:
            logits = engines[subset].run(feed)["logits"][0]
            return int(probabilities_from_logits(logits, manifest.subsets[subset]).argmax()) == label

        for kind, ratio_db in conditions:
            for number, item in enumerate(items):
                heard = item_scene(item, number, kind, ratio_db, talkers)
                blocks = SoundQuality(RATE_HZ).push(heard.samples)
                stream = AudioStream(spec, stem, OPEN)
                stream.push(heard.samples, rate_hz=RATE_HZ, time_s=0.0)
                feed = {"features.video": item.face, "mask.video": np.ones(item.face.shape[:2], np.float32)}
                feed |= {"features.text": item.words[0], "mask.text": item.words[1]}
                without = right("video+text", feed, item.label)
                hops = []
                for hop in range(1, int(len(heard.samples) / RATE_HZ / hop_s) + 1):
                    at_s = hop * hop_s
                    stream.advance(at_s)
                    filled, needed = stream.fill(at_s)
                    if filled < needed:
                        continue
                    features, mask = stream.window(at_s)
                    sound = {"features.audio": features, "mask.audio": mask}
                    hops.append(
                        HeardHop(
                            kind,
                            ratio_db,
                            number,
                            int((at_s - _GUARD_S) / BLOCK_S),
                            at_s - heard.starts_s,
                            at_s - heard.ends_s,
                            filled,
                            right("audio+video+text", feed | sound, item.label),
                            without,
                        )
                    )
                yield blocks, hops


def _clips(
    data: Path, labels: NDArray[np.int64], half: int, rng: np.random.Generator
) -> tuple[list[Samples], list[Samples]]:
    """Returns one clip for each label, of one half of the speakers, and clips for babble of the same."""
    with ExitStack() as opened:
        corpora = [opened.enter_context(read_speech(data / name, "val")) for name in SPEECH_CORPORA]
        held = []  # (corpus, speaker, label, row)
        for number, corpus in enumerate(corpora):
            speakers = sorted(set(corpus.speakers))[half::2]
            held += [
                (number, clip.speaker, clip.label, row)
                for row, clip in enumerate(corpus.clips)
                if clip.speaker in speakers
            ]
        talkers = [held[at] for at in rng.choice(len(held), min(_TALKERS, len(held)), replace=False)]
        clips = []
        for at, label in enumerate(labels):
            people = sorted({(corpus, who) for corpus, who, own, _ in held if own == label})
            person = people[int(rng.integers(len(people)))]
            rows = [row for corpus, who, own, row in held if (corpus, who) == person and own == label]
            corpus = corpora[person[0]]
            if at % 2:
                clips.append(_running([corpus.samples(int(r), RATE_HZ) for r in rng.permutation(rows)], rng))
            else:
                clips.append(corpus.samples(int(rng.choice(rows)), RATE_HZ))
        return clips, [corpora[number].samples(row, RATE_HZ) for number, _, _, row in talkers]


def _running(clips: Sequence[Samples], rng: np.random.Generator) -> Samples:
    """Returns clips one after the other with pauses of at most a fifth of a second."""
    said: list[Samples] = []
    while sum(map(len, said)) < _RUNNING_S * RATE_HZ:
        clip = trim_silence(clips[len(said) // 2 % len(clips)], keep_s=0.02)
        level = float(np.sqrt(np.mean(clip.astype(np.float64) ** 2)))
        said += [clip / np.float32(max(level, 1e-9)) * np.float32(0.05)]
        said += [np.zeros(round(rng.uniform(0.05, 0.2) * RATE_HZ), np.float32)]
    return np.concatenate(said)[: round(_RUNNING_S * RATE_HZ)]


def _texts(data: Path, labels: NDArray[np.int64], half: int, rng: np.random.Generator) -> list[str]:
    texts: list[str] = []
    held: list[int] = []
    for name in _TEXTS:
        rows = READERS[name](data / name, "dev")
        for row in np.flatnonzero(rows.labels >= 0)[half::2]:
            texts.append(rows.texts[row])
            held.append(int(rows.labels[row]))
    index = np.array(held)
    return [texts[rng.choice(np.flatnonzero(index == label))] for label in labels]
