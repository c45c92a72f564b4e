"""Which stream a modality of a manifest has."""

from __future__ import annotations

from collections.abc import Callable

from edgeemo.bundle import ModalitySpec
from edgeemo.errors import BundleError
from edgeemo.features.audio import LogMelSpec
from edgeemo.features.face import FaceSpec
from edgeemo.features.series import SeriesSpec
from edgeemo.features.text import TextSpec
from edgeemo.runtimes.base import Runner
from edgeemo.session.settings import Settings
from edgeemo.session.streams.audio import AudioStream
from edgeemo.session.streams.base import Stream
from edgeemo.session.streams.series import SeriesStream
from edgeemo.session.streams.text import TextStream
from edgeemo.session.streams.video import VideoStream

_STREAMS: dict[str, Callable[[ModalitySpec, Runner, Settings], Stream]] = {
    LogMelSpec.KIND: AudioStream,
    FaceSpec.KIND: VideoStream,
    TextSpec.KIND: TextStream,
    SeriesSpec.KIND: SeriesStream,
}


def open_stream(spec: ModalitySpec, stem: Runner, settings: Settings) -> Stream:
    """Returns a new stream for a modality.

    Args:
        spec: the modality as the manifest has it.
        stem: the stem's runner; its owner closes it.
        settings: levels, fills and times to live.

    Raises:
        BundleError: its front-end is of a kind that this version does not know.
    """
    kind = str(spec.front_end.get("kind"))
    if kind not in _STREAMS:
        raise BundleError(
            f"modality {spec.name!r} has a front-end of kind {kind!r}; this version knows: "
            + ", ".join(_STREAMS)
        )
    return _STREAMS[kind](spec, stem, settings)
