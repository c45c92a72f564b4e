"""Folders and buckets of recordings scored on many processors or machines, into one table of readings.

What was scored is kept the moment it is there, so a run that ends early goes on where it stopped; a broken
recording is a row that says why. The table is a record as `edgeemo.records` reads it, each recording a
session of its own, with the recording's path beside every reading.
"""

from edgeemo.batch.plan import Plan
from edgeemo.batch.recordings import Recording
from edgeemo.batch.run import Summary, score_archive
from edgeemo.batch.search import find_recordings

__all__ = [
    "Plan",
    "Recording",
    "Summary",
    "find_recordings",
    "score_archive",
]
