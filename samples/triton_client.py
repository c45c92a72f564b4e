"""Recognise on a server: the device computes front-end features and says which sensors are alive.

python samples/triton_client.py speech.wav --words "what a lovely day" --lose-sound 6
The server is Triton on what `edgeemo export BUNDLE --format triton --out models` wrote.
"""

from __future__ import annotations

import argparse
import json
import wave
from typing import Any

import numpy as np

from edgeemo.features.audio import LogMelSpec, LogMelStream
from edgeemo.features.text import TextSpec, text_window


def main() -> None:
    """Prints what the server answers every half second of the sound."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("sound", help="WAV file, 16 bits, mono, at 16 kHz")
    parser.add_argument("--words", default="so it goes", help="what was said")
    parser.add_argument("--server", default="localhost:8000", help="HTTP endpoint of Triton")
    parser.add_argument("--lose-sound", type=float, default=1e9, metavar="S", help="the microphone fails")
    args = parser.parse_args()

    from tritonclient import http, utils  # pip install 'tritonclient[http]'

    client = http.InferenceServerClient(args.server)
    told = client.get_model_config("emotion-audio-text")["parameters"]  # how what it takes is made
    keys = ("front_end.audio", "window.audio", "front_end.text")
    spec, window, words = (json.loads(told[key]["string_value"]) for key in keys)
    stream = LogMelStream(LogMelSpec.from_json(spec))
    frames = np.zeros((window["items"], spec["bands"]), np.float32)
    ids, mask = text_window(args.words, TextSpec.from_json(words))
    with wave.open(args.sound) as file:
        for hop in range(1, file.getnframes() // 8000 + 1):
            alive: dict[str, Any] = {"input.text": ids, "mask.text": mask}
            samples = np.frombuffer(file.readframes(8000), "<i2").astype(np.float32)
            frames = np.concatenate([frames, stream.push(samples / np.float32(32768))])[-window["items"] :]
            if hop / 2 <= args.lose_sound:
                filled = np.arange(window["positions"], 0, -1) <= hop * 40 // window["stride"]
                alive |= {"input.audio": frames, "mask.audio": filled.astype(np.float32)}
            feed = []
            for name, array in alive.items():
                feed.append(http.InferInput(name, [1, *array.shape], utils.np_to_triton_dtype(array.dtype)))
                feed[-1].set_data_from_numpy(array[None])
            model = "emotion-audio-text" if "input.audio" in alive else "emotion-text"
            best = http.InferRequestedOutput("probabilities", class_count=1)
            answer = client.infer(model, feed, outputs=[best]).as_numpy("probabilities")[0, 0].decode()
            print(f"{hop / 2:4.1f} s  {answer:<22} {model}")  # such as 0.672371:1:happy


if __name__ == "__main__":
    main()
