"""Recognisers whose models you fetch, as functions: sound at 16 kHz goes in, finished words come out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sphinx import open_pocketsphinx

Recognize = Callable[[bytes], str]
"""Takes 16-bit samples at 16 kHz, any number of them; returns words where an utterance has ended, or ""."""


def open_vosk(model: str) -> Recognize:
    """Vosk; `model` is an unpacked folder of https://alphacephei.com/vosk/models."""
    import vosk

    vosk.SetLogLevel(-1)
    decoder = vosk.KaldiRecognizer(vosk.Model(model), 16000)
    return lambda data: json.loads(decoder.Result())["text"] if decoder.AcceptWaveform(data) else ""


def open_sherpa(model: str) -> Recognize:
    """Sherpa-onnx; `model` is the unpacked folder of one of its streaming transducers."""
    import numpy as np
    import sherpa_onnx

    parts = {part: str(min(Path(model).glob(f"{part}*.onnx"))) for part in ("encoder", "decoder", "joiner")}
    tokens = str(Path(model) / "tokens.txt")
    decoder = sherpa_onnx.OnlineRecognizer.from_transducer(tokens, **parts, enable_endpoint_detection=True)
    stream = decoder.create_stream()

    def recognize(data: bytes) -> str:
        stream.accept_waveform(16000, np.frombuffer(data, "<i2").astype(np.float32) / 32768)
        while decoder.is_ready(stream):
            decoder.decode_stream(stream)
        words = decoder.get_result(stream) if decoder.is_endpoint(stream) else ""
        if words:
            decoder.reset(stream)
        return str(words)

    return recognize


ENGINES: dict[str, Any] = {"vosk": open_vosk, "sherpa": open_sherpa, "pocketsphinx": open_pocketsphinx}
