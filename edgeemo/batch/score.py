"""One recording scored with a session on its virtual clock, into its part of the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeemo.batch.bucket import fetched
from edgeemo.batch.plan import Plan
from edgeemo.batch.recordings import Recording
from edgeemo.batch.table import PartWriter, Scored, failed
from edgeemo.bundle import Bundle
from edgeemo.errors import BackendError, EdgeEmoError, InputError
from edgeemo.sensors import MediaFile
from edgeemo.session import Session


class Scorer:
    """Scores recordings one after the other; keeps the bundle open.

    Args:
        plan: how.

    Raises:
        BundleError, FormatVersionError: the bundle is not the one that was planned with.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._bundle: Bundle = plan.open_bundle()
        self._header = plan.header(self._bundle)

    def fail(self, recording: Recording, error: str) -> Scored:
        """Returns a recording that could not be scored, to be tried again by the next run."""
        return failed(self._header, recording.path, None, error)

    def score(self, recording: Recording) -> Scored:
        """Returns the readings of a recording: those that a session gives, or the error that it has.

        What is wrong with the file is kept with its state; what kept it from being reached is tried again
        by the next run.

        Raises:
            EdgeEmoError: no session can be opened: it is not the recording's fault.
        """
        place = recording.place
        try:
            with self._file(recording) as path:
                place = str(path)
                return self._score(recording, path)
        except InputError as error:
            said = str(error).replace(place, Path(place).name)
            return failed(self._header, recording.path, recording.version, said)
        except EdgeEmoError:
            raise
        except OSError as error:
            return self.fail(recording, f"it cannot be read: {error.strerror or error}")
        except Exception as error:  # whatever a decoder raises, the other recordings get their turn
            return self.fail(recording, f"{type(error).__name__}: {error}")

    @contextmanager
    def _file(self, recording: Recording) -> Iterator[Path]:
        if recording.is_remote:
            with fetched(recording, most_bytes=self._plan.most_bytes) as path:
                yield path
            return
        path = Path(recording.place)
        with path.open("rb"):  # says what the system says, where FFmpeg says what it makes of it
            pass
        yield path

    def _session(self, media: MediaFile) -> Session:
        plan = self._plan
        try:
            return Session(self._bundle, media=media, engines=plan.engines, settings=dict(plan.settings))
        except InputError as error:  # of the options: the recording is open already
            raise BackendError(str(error)) from None

    def _score(self, recording: Recording, path: Path) -> Scored:
        rows = PartWriter(self._header, path=recording.path, version=recording.version)
        with MediaFile(path) as media, self._session(media) as session:
            end_s = 0.0
            for reading in session:
                rows.add(reading.to_json())
                end_s = reading.time_s
            faults = list(media.faults)
            duration_s = media.duration_s or end_s
            if not rows.readings:
                faults.append(
                    f"{media.name} has {duration_s:.2f} s, too little for a reading every {session.hop_s} s"
                )
        return rows.finish(duration_s=duration_s, error="; ".join(faults))
