"""The first seconds of the demo recording, so that tests of many recordings are quick."""

from __future__ import annotations

from pathlib import Path

import av

from edgeemo.shipped import RECORDING


def write_short_recording(path: Path, *, seconds: float = 3.0) -> Path:
    """Writes sound and picture of the demo's first seconds, as they are, with the index at the front."""
    with (
        av.open(str(RECORDING)) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as target,
    ):
        streams = {
            stream.index: target.add_stream_from_template(stream)
            for stream in source.streams
            if stream.type in ("audio", "video")
        }
        for packet in source.demux(*(source.streams[index] for index in streams)):
            if packet.dts is not None and packet.pts * packet.time_base < seconds:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return path
