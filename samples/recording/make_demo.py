"""Makes the demo recording that ships with edgeemo: a camera that moves over one photograph, and a voice.

Needs scikit-image (for the photograph), espeak-ng (for the voice), PyAV and OpenCV:

    pip install 'edgeemo[live]' scikit-image
    sudo apt-get install espeak-ng
    python samples/recording/make_demo.py

Writes edgeemo/assets/demo.mp4 and demo.srt, then looks for the face in what it wrote. The same versions of
the encoder and of espeak-ng give the same bytes.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.data import astronaut

from edgeemo.sensors import MediaFile

ASSETS = Path(__file__).resolve().parents[2] / "edgeemo" / "assets"
LENGTH_S, FPS, WIDTH, HEIGHT, RATE_HZ = 14.0, 15, 320, 240, 22050
AWAY_S = (5.5, 8.25)  # the camera looks at the model of the shuttle: nobody is in view

# Time in seconds, centre (x, y) and width of what the camera sees, in pixels of the photograph.
PATH = np.array([
    (0.0, 232, 134, 300), (2.5, 214, 128, 240), (5.0, 238, 126, 270), (5.6, 404, 300, 215),
    (8.1, 384, 318, 235), (8.7, 226, 126, 280), (11.2, 234, 122, 225), (14.0, 222, 132, 300),
])  # fmt: skip

# Start, pitch and speed of the voice for each sentence; silence between them.
SENTENCES = (
    (0.4, 65, 165, "I am so happy to see you, what a wonderful day!"),
    (4.4, 40, 135, "Oh no, where did you go? I miss you."),
    (8.6, 80, 170, "Wow, there you are! What a surprise!"),
    (11.4, 55, 155, "Thank you, this is great fun."),
)


def camera_frame(photo_bgr: NDArray[np.uint8], time_s: float) -> NDArray[np.uint8]:
    """What the camera sees: it glides from point to point of `PATH`, held by an unsteady hand."""
    after = min(int(np.searchsorted(PATH[:, 0], time_s, side="right")), len(PATH) - 1)
    t0, t1 = PATH[after - 1, 0], PATH[after, 0]
    share = (time_s - t0) / (t1 - t0)
    x, y, width = PATH[after - 1, 1:] + (PATH[after, 1:] - PATH[after - 1, 1:]) * share**2 * (3 - 2 * share)
    x += 2.0 * np.sin(2.1 * time_s) + 1.0 * np.sin(5.3 * time_s)
    y += 1.5 * np.sin(1.7 * time_s + 1) + 0.8 * np.sin(4.7 * time_s)
    scale = WIDTH / width
    view = np.array([[scale, 0, WIDTH / 2 - scale * x], [0, scale, HEIGHT / 2 - scale * y]])
    frame = cv2.warpAffine(
        photo_bgr, view, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(frame, dtype=np.uint8)


def speak(text: str, *, pitch: int, speed: int) -> NDArray[np.float32]:
    """The sentence as espeak-ng says it, float32 mono (N,) at `RATE_HZ`."""
    command = ["espeak-ng", "-v", "en-us+f3", "-p", str(pitch), "-s", str(speed), "--stdout", text]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(spoken)) as file:
        form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
        if form != (RATE_HZ, 1, 2):
            raise SystemExit(f"espeak-ng speaks in another form here: (rate, channels, bytes) = {form}")
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return samples.astype(np.float32) / np.float32(32768)


def sound_and_captions() -> tuple[NDArray[np.float32], str]:
    """The sound track over a faint room noise, and the sentences as SubRip captions."""
    sound = np.random.default_rng(0).normal(0.0, 5e-4, round(LENGTH_S * RATE_HZ)).astype(np.float32)
    captions = []
    for number, (start_s, pitch, speed, text) in enumerate(SENTENCES, start=1):
        voice = speak(text, pitch=pitch, speed=speed)
        first = round(start_s * RATE_HZ)
        sound[first : first + len(voice)] += 0.7 * voice
        end_s = start_s + len(voice) / RATE_HZ
        captions.append(f"{number}\n{srt_time(start_s)} --> {srt_time(end_s)}\n{text}\n")
    return sound, "\n".join(captions)


def srt_time(time_s: float) -> str:
    """``00:00:04,400`` for 4.4 seconds."""
    ms = round(time_s * 1000)
    return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"


def write_recording(path: Path, sound: NDArray[np.float32]) -> None:
    """H.264 and AAC in an mp4 whose index comes first; one thread and no dates, so that it is repeatable."""
    photo_bgr = np.ascontiguousarray(astronaut()[:, :, ::-1])
    with av.open(str(path), "w", options={"movflags": "faststart", "fflags": "bitexact"}) as container:
        video = container.add_stream(
            "libx264", rate=FPS, options={"crf": "27", "preset": "slow", "threads": "1"}
        )
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono", options={"flags": "bitexact"})
        audio.bit_rate = 48000
        step = RATE_HZ // FPS
        for index in range(round(LENGTH_S * FPS)):
            picture = av.VideoFrame.from_ndarray(camera_frame(photo_bgr, index / FPS), format="bgr24")
            picture.pts, picture.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(picture))
            piece = av.AudioFrame.from_ndarray(sound[None, index * step : (index + 1) * step], "fltp", "mono")
            piece.sample_rate, piece.pts, piece.time_base = RATE_HZ, index * step, Fraction(1, RATE_HZ)
            container.mux(audio.encode(piece))
        container.mux(video.encode())
        container.mux(audio.encode())


def check_faces(path: Path) -> str:
    """How many frames show the face before, during and after the look away; fails where they are too few."""
    cascade_file = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(str(cascade_file))
    counts = {"in view": [0, 0], "away": [0, 0]}
    with MediaFile(path, captions=None) as media:
        for chunk in media:
            if chunk.modality != "video" or min(abs(chunk.time_s - edge) for edge in AWAY_S) < 0.4:
                continue
            grey = cv2.cvtColor(chunk.array, cv2.COLOR_BGR2GRAY)
            found = len(cascade.detectMultiScale(grey, 1.1, 4, minSize=(48, 48)))
            count = counts["away" if AWAY_S[0] < chunk.time_s < AWAY_S[1] else "in view"]
            count[0] += found == 1
            count[1] += 1
    (seen, in_view), (false, away) = counts["in view"], counts["away"]
    report = f"one face in {seen} of {in_view} frames where it is in view, in {false} of {away} where not"
    if seen < 0.95 * in_view or false:
        raise SystemExit(f"the recording is no good: {report}")
    return report


def main() -> None:
    """Writes the recording and its captions into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder (default: edgeemo/assets)")
    out = parser.parse_args().out
    sound, captions = sound_and_captions()
    (out / "demo.srt").write_text(captions, encoding="utf-8", newline="\n")
    write_recording(out / "demo.mp4", sound)
    print(f"{out / 'demo.mp4'}: {(out / 'demo.mp4').stat().st_size} bytes, {check_faces(out / 'demo.mp4')}")


if __name__ == "__main__":
    main()
