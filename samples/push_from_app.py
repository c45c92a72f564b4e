"""Push what your application already captures, and read when it suits you.

python samples/push_from_app.py
"""

from __future__ import annotations

import numpy as np

import edgeemo


def main() -> None:
    """Feeds two seconds of made-up data the way a game loop or a robot's control loop would."""
    rng = np.random.default_rng(0)
    with edgeemo.Session() as session:
        for tick in range(40):
            now_s = tick / 20
            at_s = now_s + np.arange(800) / 16000
            overtones = sum(
                np.sin(2 * np.pi * 150 * k * (at_s + 0.002 * np.sin(5 * at_s))) / k for k in range(1, 12)
            )
            voice = 0.1 * overtones * np.sin(2 * np.pi * 2 * at_s).clip(0)
            session.push_audio(voice.astype(np.float32), rate_hz=16000, time_s=now_s)
            session.push_frame(rng.integers(0, 255, (120, 160, 3), np.uint8), time_s=now_s)
            if tick == 20:
                session.push_text("I am so glad that you came!", time_s=now_s)
            if tick % 10 == 9:
                reading = session.read(at_s=now_s + 0.05)
                print(f"{reading.time_s:.2f} s: {reading.label} from {reading.subset or 'nothing'}")
                for modality, status in reading.states.items():
                    print(f"    {modality}: {status.state} {status.why}")


if __name__ == "__main__":
    main()
