"""The topics that a session publishes to and listens to, and the names that do not change with time."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Topics:
    """Every topic, from the one that a user gave.

    ===================== ======== ====== =========================================================
    topic                 retained QoS    what
    ===================== ======== ====== =========================================================
    ``/availability``     yes      1      ``online``, or ``offline``, which is the last will too
    ``/reading``          no       0      `Reading.to_json`, one each hop
    ``/state``            yes      0      the reading in short, see `state_from_reading`
    ``/modality/<name>``  yes      0      ``{"state", "why", "since_s"}`` of one modality
    ``/event``            no       1      `Event.to_json`
    ``/mute/<name>``      no              taken, where allowed: ``ON`` mutes, ``OFF`` unmutes
    ===================== ======== ====== =========================================================

    Attributes:
        base: the topic that a user gave.
    """

    base: str

    @property
    def availability(self) -> str:
        """Whether the session is there."""
        return f"{self.base}/availability"

    @property
    def reading(self) -> str:
        """Each reading in full."""
        return f"{self.base}/reading"

    @property
    def state(self) -> str:
        """The newest reading in short."""
        return f"{self.base}/state"

    @property
    def event(self) -> str:
        """What happened beside the readings."""
        return f"{self.base}/event"

    def modality(self, name: str) -> str:
        """The state of one modality."""
        return f"{self.base}/modality/{name}"

    def mute(self, name: str) -> str:
        """Where commands to mute one modality come from."""
        return f"{self.base}/mute/{name}"

    @property
    def device_id(self) -> str:
        """The name of the device for programs: from the topic alone, so that it is the same for ever."""
        words = re.sub(r"[^a-z0-9]+", "_", self.base.lower()).strip("_")[:40]
        digest = hashlib.sha256(self.base.encode("utf8")).hexdigest()[:8]
        return "_".join(filter(None, ("edgeemo", words.removeprefix("edgeemo").strip("_"), digest)))

    def discovery(self, prefix: str) -> str:
        """Where Home Assistant looks for new devices."""
        return f"{prefix}/device/{self.device_id}/config"
