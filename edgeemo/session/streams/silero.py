"""Silero's voice activity detector, where the user has installed it, instead of our own.

The package silero-vad (MIT) holds an ONNX network that needs no torch, which its Python code imports all
the same: so only its file is used, never its code. ``pip install --no-deps silero-vad`` is enough.
The network takes 512 samples at 16 kHz after the last 64 of those before, and its own state (2, 1, 128).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from edgeemo.errors import BackendError, InputError, MissingDependencyError
from edgeemo.runtimes.ort import load_onnxruntime
from edgeemo.windows import Float32

RATE_HZ = 16000
LIKELY = 0.5  # the probability of speech that the package itself takes by default

_FILE = Path("data") / "silero_vad_16k_op15.onnx"
_SIZE, _CONTEXT = 512, 64
_BLOCK = RATE_HZ // 10


class SileroVoice:
    """Tells for each tenth of a second whether somebody speaks; the same for every chunking.

    Args:
        rate_hz: samples a second.

    Raises:
        InputError: another rate than 16 kHz.
        MissingDependencyError: silero-vad or onnxruntime is not installed.
        BackendError: the installed package has no such network.
    """

    def __init__(self, rate_hz: int) -> None:
        if rate_hz != RATE_HZ:
            raise InputError(f"silero-vad takes {RATE_HZ} Hz, this model's front-end has {rate_hz} Hz")
        file = silero_file()
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._network = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._hz = np.array(RATE_HZ, np.int64)
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next sample is the first of a stream."""
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)
        self._rest = np.zeros(0, np.float32)
        self._likely: list[float] = []  # of pieces that reach into blocks not told yet
        self._pieces = self._blocks = self._samples = 0

    def push(self, samples: Float32) -> list[bool]:
        """Returns for each block of 0.1 s that these samples (N,) complete whether it holds a voice.

        A block is judged by the pieces that end in it; the newest of them may be 32 ms old.
        """
        self._samples += len(samples)
        buffer = np.concatenate([self._rest, samples])
        while len(buffer) >= _SIZE:
            piece, buffer = buffer[:_SIZE], buffer[_SIZE:]
            heard = np.concatenate([self._context, piece])[None]
            answer, self._state = self._network.run(
                None, {"input": heard, "state": self._state, "sr": self._hz}
            )
            self._context = piece[-_CONTEXT:]
            self._likely.append(float(answer[0, 0]))
            self._pieces += 1
        self._rest = buffer
        told = []
        while (self._blocks + 1) * _BLOCK <= self._samples:
            first = self._pieces - len(self._likely)
            ended = (self._blocks + 1) * _BLOCK // _SIZE - first
            told.append(any(likely >= LIKELY for likely in self._likely[:ended]))
            del self._likely[:ended]
            self._blocks += 1
        return told


def silero_file() -> Path:
    """Returns the network inside the installed package, without importing the package.

    Raises:
        MissingDependencyError: silero-vad is not installed.
        BackendError: it has no such file.
    """
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "voice_activity='silero'", "silero-vad", "pip install --no-deps silero-vad"
        )
    file = Path(spec.origin).parent / _FILE
    if not file.is_file():
        raise BackendError(
            f"{file} does not exist; edgeemo knows silero-vad 6: pip install 'silero-vad>=6,<7'"
        )
    return file
