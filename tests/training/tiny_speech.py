"""Writes speech corpora of a few tones, in the folder layout of the real ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

HEADER = "file\tspeaker\tsex\temotion_raw\tlabel7\tsplit\tseconds\tpeak\textra\n"


def tone(hz: float, *, rate: int = 16000, seconds: float = 0.25) -> NDArray[np.int16]:
    """Returns (N,) a sine at a quarter of full scale."""
    turns = hz * np.arange(int(rate * seconds)) / rate
    samples: NDArray[np.int16] = (8000 * np.sin(2 * np.pi * turns)).astype(np.int16)
    return samples


def flac(samples: NDArray[np.int16], *, rate: int = 16000, layout: str = "mono") -> bytes:
    """Returns a FLAC file of (N,) or (N, channels) samples; skips the test without PyAV."""
    av = pytest.importorskip("av", reason="needs PyAV")
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = rate
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def write_corpus(folder: Path, rows: Sequence[tuple[str, str, str, str]], *, seconds: float = 0.25) -> Path:
    """Writes clips of (file, speaker, label, split); clip n is a tone of 200 (n + 1) Hz."""
    folder.mkdir(parents=True)
    lines = [
        f'{file}\t{who}\tF\tx\t{label}\t{split}\t{seconds}\t0.2\t"\n' for file, who, label, split in rows
    ]
    (folder / "meta.tsv").write_text(HEADER + "".join(lines), encoding="utf-8")
    with zipfile.ZipFile(folder / "audio_flac.zip", "w") as archive:
        for number, row in enumerate(rows):
            archive.writestr(row[0], flac(tone(200.0 * (number + 1), seconds=seconds)))
    return folder
