"""Every error that edgeemo raises on purpose, in one tree.

```text
EdgeEmoError
├── MissingDependencyError   an optional package or system library is not installed
├── InputError               audio, frames, text, time stamps or options that cannot be used
├── SubsetError              a modality or subset that does not exist here
├── FormatVersionError       a checkpoint or bundle written by a newer (or unknown) edgeemo
├── CheckpointError          a checkpoint that is incomplete, misshapen or not finite
├── BundleError              a bundle that is incomplete, truncated or tampered with
├── ExportError              an export that could not be finished; the old bundle is untouched
│   └── GateError            an engine whose answers are not those of the trained network
├── BackendError             an engine that cannot be opened or run on the backend asked for
├── ReloadError              newer engines that cannot take the place of those in use; these go on
├── SessionClosedError       a session that was used after `close`, or in a forked process
├── NoticeError              sensing that begins before people acknowledged the notice
├── RecordError              a record of readings that cannot be written or read
├── SensorError              a sensor asked for by name that cannot be opened or read
├── ServeError               an address that cannot be listened on
├── DatasetError             a folder that is not one of the known data layouts, or a broken one
└── TrainingError            a training run that cannot start or resume
```
"""

from __future__ import annotations


class EdgeEmoError(Exception):
    """Catch this to catch everything that edgeemo raises on purpose."""


class MissingDependencyError(EdgeEmoError, ImportError):
    """Catch it to offer an install command: the message ends with the exact one."""

    def __init__(self, feature: str, package: str, command: str) -> None:
        super().__init__(
            f"{feature} needs {package}, which is not installed here. Install it with: {command}"
        )
        self.feature = feature
        self.package = package
        self.command = command


class InputError(EdgeEmoError, ValueError):
    """Catch it around pushes of samples, frames and text that you do not control."""


class SubsetError(EdgeEmoError, ValueError):
    """Catch it where a modality or subset name comes from a user."""


class FormatVersionError(EdgeEmoError):
    """Catch it to ask for an upgrade: the file is of a format this version does not know."""


class CheckpointError(EdgeEmoError):
    """Catch it around exports of checkpoints that somebody else trained."""


class BundleError(EdgeEmoError):
    """Catch it around opening a bundle: what is on the disk is not what the manifest promises."""


class ExportError(EdgeEmoError):
    """Catch it around an export; whatever bundle was there before is still there."""


class GateError(ExportError):
    """Catch it to learn which engine gives other answers than the trained network."""


class BackendError(EdgeEmoError):
    """Catch it to try another backend or variant."""


class ReloadError(EdgeEmoError):
    """Catch it around the result of `Session.reload`: a new session has to be opened for that bundle."""


class SessionClosedError(EdgeEmoError):
    """Catch it where another thread may close the session."""


class NoticeError(EdgeEmoError):
    """Catch it to show the notice: no sensor opens before somebody has acknowledged it."""


class RecordError(EdgeEmoError):
    """Catch it around `Recorder.write`: a full disk stops the record, never the session."""


class SensorError(EdgeEmoError):
    """Catch it where a sensor was asked for by name; sensors found by "auto" become states instead."""


class ServeError(EdgeEmoError):
    """Catch it around the start of a server to try another port."""


class DatasetError(EdgeEmoError):
    """Catch it around `edgeemo eval` and `edgeemo train` on folders that a user names."""


class TrainingError(EdgeEmoError):
    """Catch it around training runs started by a program."""
