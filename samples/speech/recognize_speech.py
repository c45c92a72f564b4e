"""Let a speech recogniser give the words to a session that also hears the voice.

python samples/speech/recognize_speech.py talk.wav --engine pocketsphinx
python samples/speech/recognize_speech.py talk.wav --engine vosk --model vosk-model-small-en-us-0.15
python samples/speech/recognize_speech.py --engine sherpa --model sherpa-onnx-streaming-zipformer-en-20M
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

import numpy as np
from recognizers import ENGINES

import edgeemo
from edgeemo.features.resample import Resampler
from edgeemo.sensors import Chunk, MediaFile


def sound(recording: str | None, session: edgeemo.Session) -> Iterator[Chunk]:
    """Yields the sound of a file and a moment of silence, or of the microphone until Ctrl-C."""
    if recording:
        for chunk in MediaFile(recording, chunk_s=0.1).chunks_of("audio"):
            yield chunk
        silence = np.zeros(3 * (chunk.rate_hz or 0), np.float32)  # lets recognisers finish the last words
        yield Chunk("audio", chunk.time_s + chunk.duration_s, silence, chunk.rate_hz)
        return
    with edgeemo.Microphone() as microphone:
        microphone.start(lambda: session.now_s)
        while True:
            yield from microphone.poll(0.1)


def main() -> None:
    """Prints the words as they are understood, with what voice and words say together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recording", nargs="?", help="a file with a voice; default: the microphone")
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--model", help="folder of the recogniser's model; pocketsphinx brings one")
    args = parser.parse_args()
    if not args.model and args.engine != "pocketsphinx":
        parser.error(f"{args.engine} needs --model FOLDER, which you fetch from its project")
    recognize, resampler = ENGINES[args.engine](args.model), None
    with contextlib.suppress(KeyboardInterrupt), edgeemo.Session() as session:
        for chunk in sound(args.recording, session):
            session.push_audio(chunk.array, rate_hz=chunk.rate_hz or 0, time_s=chunk.time_s)
            resampler = resampler or Resampler(chunk.rate_hz or 0, 16000)
            at_16_khz = resampler.push(chunk.array).clip(-1, 1)
            if words := recognize((at_16_khz * 32767).astype("<i2").tobytes()):
                session.push_text(words, time_s=chunk.time_s)
                reading = session.read(at_s=chunk.time_s)
                print(f"{chunk.time_s:5.1f} s  {words!r}: {reading.label}, from {reading.subset}")


if __name__ == "__main__":
    main()
