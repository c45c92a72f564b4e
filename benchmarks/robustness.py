"""How accuracy falls as the input gets worse: noisy, quiet and loud speech, bad faces, misheard words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Report, Table
from edgeemo.bundle import Bundle, probabilities_from_logits
from edgeemo.datasets.faces import read_ferplus
from edgeemo.datasets.speech import SPEECH_CORPORA, SpeechCorpus, read_speech
from edgeemo.datasets.text import READERS
from edgeemo.evaluation.metrics import Metrics, metrics_from_probabilities
from edgeemo.evaluation.windows import WindowBatch, face_windows, run_in_batches, speech_windows, text_windows
from edgeemo.faces.finder import FaceFinder
from edgeemo.features.face import FaceSpec, crop_face
from edgeemo.features.text import tokenize
from edgeemo.runtimes import open_engine, open_stem
from edgeemo.training.augment.text import TextNoise, damage_words

SNRS_DB = (20, 10, 5, 0)
CLIPS, FACES, TEXTS = 240, 900, 1200  # of each data set, evenly spread over it
_FRAME = (240, 320)  # rows, columns of the picture that a face is put into
_TALKERS = 4  # in the babble

Disturb = Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]


def measure(bundle: Bundle, data: Path, *, variant: str = "int8") -> Report:
    """Returns the figures of the single-modality engines under every disturbance, on val and dev.

    Args:
        bundle: what to measure.
        data: holds the data sets; all disturbances are drawn with fixed seeds.
        variant: of engines and stems.
    """
    figures: dict[str, Any] = {}
    tables = []
    with ExitStack() as opened:
        run = {
            name: _Run(bundle, name, variant, opened)
            for name in ("audio", "video", "text")
            if name in bundle.manifest.engines
        }
        speech = {name: _speech(run["audio"], data / name) for name in SPEECH_CORPORA}
        figures["speech"] = speech
        tables.append(
            Table(
                "Speech",
                f"UAR. At most {CLIPS} clips a corpus, of speakers that were not trained on. Noise is pink; "
                f"babble is {_TALKERS} other clips at once; the ratio is to the loudest quarter of the clip. "
                "Loud clips half of the clip's peak away; quiet is 40 dB below full scale, in 16 bits.",
                ("condition", *speech),
                [
                    (name, *(f"{corpus[name]['uar']:.1%}" for corpus in speech.values()))
                    for name in next(iter(speech.values()))
                ],
            )
        )
        figures["faces"] = _faces(run["video"], data / "ferplus")
        tables.append(
            Table(
                "Faces",
                f"{FACES} faces of FER+ val with a majority of at least 5 of 10 votes. All but the first row "
                "stand in a larger picture, are found by the live detector and cut out with its framing; "
                "figures are over the faces that it finds.",
                ("condition", "found", "accuracy", "UAR"),
                [
                    (name, f"{row['found']:.1%}", f"{row['accuracy']:.1%}", f"{row['uar']:.1%}")
                    for name, row in figures["faces"].items()
                ],
            )
        )
        texts = {name: _texts(run["text"], data / name) for name in ("goemotions", "meld_text")}
        figures["texts"] = texts
        tables.append(
            Table(
                "Texts",
                f"Accuracy. {TEXTS} texts of dev with exactly one label. A recogniser leaves no marks and no "
                "capitals; its word errors are half losses, half words that sound alike or lose a letter.",
                ("condition", *texts),
                [
                    (name, *(f"{corpus[name]['accuracy']:.1%}" for corpus in texts.values()))
                    for name in next(iter(texts.values()))
                ],
            )
        )
    figures["variant"] = variant
    return Report("robustness", "Accuracy as the input gets worse", figures, tables)


class _Run:
    """The stem and engine of one modality, open."""

    def __init__(self, bundle: Bundle, name: str, variant: str, opened: ExitStack) -> None:
        self.manifest = bundle.manifest
        self.spec = bundle.manifest.modality(name)
        self.stem = opened.enter_context(open_stem(bundle, name, variant=variant))
        self.engine = opened.enter_context(open_engine(bundle, name, variant=variant))

    def figures(self, batches: Iterable[WindowBatch], truth: NDArray[np.int64]) -> dict[str, float]:
        """Returns accuracy and UAR; items without a window get the prior."""
        subset = self.manifest.subsets[self.spec.name]
        sums = np.zeros((len(truth), len(self.manifest.labels)))
        for batch in batches:
            feed = {f"features.{self.spec.name}": batch.features, f"mask.{self.spec.name}": batch.mask}
            shares = probabilities_from_logits(run_in_batches(self.engine, feed)["logits"], subset)
            np.add.at(sums, batch.item, shares)
        empty = sums.sum(axis=1) == 0
        sums[empty] = subset.prior
        found: Metrics = metrics_from_probabilities(sums / sums.sum(axis=1, keepdims=True), truth)
        return {"n": found.n, "accuracy": found.accuracy, "uar": found.uar}


def _spread(count: int, wanted: int) -> NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64)


class _DisturbedSpeech(SpeechCorpus):
    """A corpus whose clips sound worse."""

    def __init__(self, corpus: SpeechCorpus, disturb: Disturb) -> None:
        self.__dict__ = corpus.__dict__
        self._worse = disturb
        self._plain = corpus

    def samples(self, index: int, rate: int) -> NDArray[np.float32]:
        clean = SpeechCorpus.samples(self, index, rate)
        return self._worse(clean, np.random.default_rng([7, index])).astype(np.float32)


def _speech(run: _Run, folder: Path) -> dict[str, dict[str, float]]:
    found = {}
    with read_speech(folder, "val") as corpus:
        rows = _spread(len(corpus), CLIPS)
        others = [corpus.samples(int(row), 16000) for row in _spread(len(corpus), 40)]
        conditions: dict[str, Disturb] = {"as recorded": lambda clip, rng: clip}
        for ratio in SNRS_DB:
            conditions[f"noise {ratio} dB"] = _mixed(_pink, ratio)
        for ratio in SNRS_DB:
            conditions[f"babble {ratio} dB"] = _mixed(
                lambda count, rng: sum(
                    np.resize(others[int(rng.integers(len(others)))], count) for _ in range(_TALKERS)
                ),
                ratio,
            )
        conditions["quiet"] = lambda clip, rng: (np.rint(_scaled(clip, 0.01) * 32768) / 32768).astype("f4")
        conditions["loud"] = lambda clip, rng: np.clip(_scaled(clip, 2.0), -1, 1)
        for name, disturb in conditions.items():
            worse = _DisturbedSpeech(corpus, disturb)
            batches = speech_windows(worse, rows, run.spec, run.stem, hop_s=run.manifest.hop_s)
            found[name] = run.figures(batches, corpus.label_index[rows])
    return found


def _scaled(clip: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = clip * (peak / max(float(np.abs(clip).max()), 1e-9))
    return scaled


def _mixed(noise: Callable[[int, np.random.Generator], Any], ratio_db: float) -> Disturb:
    def disturb(clip: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        added = np.asarray(noise(len(clip), rng), np.float64)
        blocks = np.sort(np.mean(clip[: len(clip) // 160 * 160].reshape(-1, 160) ** 2, axis=1))
        speech = float(blocks[-max(1, len(blocks) // 4) :].mean())
        added *= np.sqrt(speech / max(float(np.mean(added**2)), 1e-12)) * 10 ** (-ratio_db / 20)
        return _scaled((clip + added).astype(np.float32), 0.9)

    return disturb


def _pink(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(rng.standard_normal(count))
    flat_below = 50 * count / 16000  # 50 Hz: what is lower, no microphone of a device hears
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), max(flat_below, 1)))
    return np.fft.irfft(spectrum, n=count)


def _faces(run: _Run, folder: Path) -> dict[str, dict[str, float]]:
    faces = read_ferplus(folder, "val")
    counted = np.flatnonzero(faces.label >= 0)
    rows = counted[_spread(len(counted), FACES)]
    images, truth = faces.images[rows], faces.label[rows]
    found = {
        "FER+'s own crop": {"found": 1.0, **run.figures(face_windows(images, run.spec, run.stem), truth)}
    }
    conditions: dict[str, tuple[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
        "found by the detector, 160 pixels": (160, lambda face: face),
        "80 pixels": (80, lambda face: face),
        "48 pixels": (48, lambda face: face),
        "32 pixels": (32, lambda face: face),
        "dark (an eighth of the light, noise)": (160, _darkened),
        "blurred (sigma 2 % of the face)": (160, lambda face: _blurred(face, 0.02)),
        "blurred (sigma 4 % of the face)": (160, lambda face: _blurred(face, 0.04)),
        "rotated by 10 degrees": (160, lambda face: _rotated(face, 10)),
        "rotated by 20 degrees": (160, lambda face: _rotated(face, 20)),
        "rotated by 30 degrees": (160, lambda face: _rotated(face, 30)),
    }
    spec = FaceSpec.from_json(run.spec.front_end)
    finder = FaceFinder(spec)
    for name, (side, disturb) in conditions.items():
        crops, kept = [], []
        for row, image in enumerate(images):
            frame = disturb(_in_a_picture(image, side))
            finder.reset()
            box = finder.find(frame, 0.0)
            if box is not None:
                crops.append(crop_face(frame, box, spec))
                kept.append(row)
        figures = run.figures(face_windows(np.stack(crops), run.spec, run.stem), truth[kept])
        found[name] = {"found": len(kept) / len(rows), **figures}
    return found


def _in_a_picture(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Returns a grey picture with the 48x48 crop in its middle, ``side`` pixels wide, its edges drawn out."""
    height, width = _FRAME
    face = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if side < 48 else cv2.INTER_CUBIC)
    top, left = (height - side) // 2, (width - side) // 2
    border = (top, height - side - top, left, width - side - left)
    picture: NDArray[np.uint8] = cv2.copyMakeBorder(face, *border, cv2.BORDER_REPLICATE)
    return picture


def _darkened(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(int(frame.sum())).normal(0, 2, frame.shape)
    dark: NDArray[np.uint8] = np.clip(np.rint(frame / 8 + noise), 0, 255).astype(np.uint8)
    return dark


def _blurred(frame: NDArray[np.uint8], part: float) -> NDArray[np.uint8]:
    blurred: NDArray[np.uint8] = cv2.GaussianBlur(frame, (0, 0), part * 160)
    return blurred


def _rotated(frame: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    height, width = frame.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    rotated: NDArray[np.uint8] = cv2.warpAffine(frame, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return rotated


def _texts(run: _Run, folder: Path) -> dict[str, dict[str, float]]:
    rows = READERS[folder.name](folder, "dev")
    counted = np.flatnonzero(rows.labels >= 0)
    chosen = counted[_spread(len(counted), TEXTS)]
    texts, truth = [rows.texts[row] for row in chosen], rows.labels[chosen]
    variants: dict[str, Iterator[str]] = {
        "as written": iter(texts),
        "in capitals": (text.upper() for text in texts),
        "no marks": _misheard(texts, 0.0),
        "recogniser, 5 % word errors": _misheard(texts, 0.05),
        "recogniser, 10 % word errors": _misheard(texts, 0.10),
        "recogniser, 20 % word errors": _misheard(texts, 0.20),
    }
    return {
        name: run.figures(text_windows(list(worse), run.spec, run.stem), truth)
        for name, worse in variants.items()
    }


def _misheard(texts: list[str], errors: float) -> Iterator[str]:
    """Yields texts as a recogniser with that word error rate leaves them."""
    noise = TextNoise(
        drop_marks=1.0,
        drop_apostrophes=0.0,
        drop_placeholders=1.0,
        drop_word=errors / 2,
        sound_alike=errors / 2,
        swap_letters=errors / 2,
        filler=errors / 4,
    )
    for number, text in enumerate(texts):
        words = damage_words(tokenize(text), noise, np.random.default_rng([11, number]))
        yield " ".join(words)
