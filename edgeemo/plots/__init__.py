"""Pictures of readings over time."""

from edgeemo.plots.timeline import SUFFIXES, draw_timeline, save_timeline
from edgeemo.plots.track import Track, track_from_record

__all__ = ["SUFFIXES", "Track", "draw_timeline", "save_timeline", "track_from_record"]
