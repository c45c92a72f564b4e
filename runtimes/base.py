"""One contract for every backend: named arrays in, named arrays out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import BackendError, InputError

if TYPE_CHECKING:
    from typing_extensions import Self

Array = NDArray[Any]
Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an engine.

    Attributes:
        name: such as ``features.audio``.
        shape: a number for a fixed dimension, a word for one that the caller chooses. The same word
            must stand for the same number within one call.
        dtype: the numpy type; arrays of another type are refused, never converted in silence.
    """

    name: str
    shape: Shape
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))})"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Tells whether an array of this shape can be this tensor."""
        if len(shape) != len(self.shape):
            return False
        return all(
            have == want or want.__class__ is str for have, want in zip(shape, self.shape, strict=True)
        )


@dataclass(frozen=True)
class VariantChoice:
    """Which variant of an engine runs here, and why.

    Attributes:
        engine: the engine's name, such as ``audio+video`` or ``stem.audio``.
        variant: the one that runs.
        medians_ms: measured time of one call for each variant that was timed; empty where nothing was.
        source: ``asked`` (by name), ``only`` (no other can run here), ``measured`` (just now), ``cached``
            (measured before, on this CPU with these files) or ``kept`` (as the engine that this one takes
            the place of, whose times these are).
        skipped: variants that could not be opened, each with the reason.
        rejected: backends that "auto" prefers and does not use here, each with the reason.
    """

    engine: str
    variant: str
    medians_ms: tuple[tuple[str, float], ...]
    source: str
    skipped: tuple[tuple[str, str], ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        times = ", ".join(f"{variant} {ms:.2f} ms" for variant, ms in self.medians_ms)
        failed = "; ".join(f"{variant} skipped: {why}" for variant, why in self.skipped)
        passed = "; ".join(f"not on {backend}: {why}" for backend, why in self.rejected)
        detail = "; ".join(part for part in (times, failed, passed) if part)
        return f"{self.engine}: {self.variant} ({self.source}{': ' if detail else ''}{detail})"


class Runner(ABC):
    """An engine opened on a backend.

    A context manager; `close` may be called any number of times. `run` may be called from any thread and
    returns arrays that belong to the caller. A backend implements `_run` and `_close`.

    Attributes:
        engine: the engine's name, such as ``audio+video`` or ``stem.audio``.
        variant: ``fp32``, ``int8``, ... of the file that was opened.
        backend: the backend that really computes, read back after opening: ``cpu``, ``cuda``, ...
        inputs: what `run` takes.
        outputs: what `run` returns.
        choice: why this variant runs; None where the runner was opened from a file by hand.
    """

    engine: str
    variant: str
    backend: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    choice: VariantChoice | None

    def __init__(
        self,
        *,
        engine: str,
        variant: str,
        backend: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
    ) -> None:
        self.engine = engine
        self.variant = variant
        self.backend = backend
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.choice = None
        self._closed = False
        self._fitted: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...] = ()

    @abstractmethod
    def _run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Computes the outputs of a feed that is known to fit."""

    @abstractmethod
    def _close(self) -> None:
        """Frees what the backend holds; called once."""

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the engine's outputs by name.

        Args:
            feed: one array for each of `inputs`, no more, of exactly its type and shape.

        Raises:
            InputError: an input is missing, unknown, of another type or of another shape.
            BackendError: the runner is closed, or the backend failed.
        """
        if self._closed:
            raise BackendError(f"{self!r} is closed; open the engine again")
        # A live session asks the same shapes hop after hop, so those of the last feed that fitted are
        # compared first, in a quarter of a microsecond an input.
        fits = len(feed) == len(self._fitted)
        for name, dtype, shape in self._fitted:
            array = feed.get(name)
            if array.__class__ is not np.ndarray or array.shape != shape or array.dtype != dtype:
                fits = False
                break
        if not fits:
            if problems := self._misfits(feed):
                takes = "; ".join(map(str, self.inputs))
                raise InputError(
                    f"engine {self.engine} ({self.variant}): {'; '.join(problems)}. It takes: {takes}"
                )
            self._fitted = tuple((spec.name, spec.dtype, feed[spec.name].shape) for spec in self.inputs)
        return self._run(feed)

    def close(self) -> None:
        """Frees the engine; nothing happens the second time."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        takes = ", ".join(map(str, self.inputs))
        gives = ", ".join(spec.name for spec in self.outputs)
        name = f"{type(self).__name__} {self.engine} {self.variant} on {self.backend}{state}"
        return f"<{name}: {takes} -> {gives}>"

    def _misfits(self, feed: Mapping[str, object]) -> list[str]:
        """Names everything that is wrong with a feed."""
        problems = []
        known = {spec.name: spec for spec in self.inputs}
        if extra := sorted(set(feed) - set(known)):
            problems.append(f"unknown input {', '.join(extra)}")
        words: dict[str, tuple[str, int]] = {}
        for name, spec in known.items():
            array = feed.get(name)
            if array is None:
                problems.append(f"{name} is missing")
            elif not isinstance(array, np.ndarray):
                problems.append(f"{name} is a {type(array).__name__}, not a numpy array")
            elif array.dtype != spec.dtype or not spec.fits(array.shape):
                problems.append(f"{name} is {array.dtype} {array.shape}")
            else:
                for number, want in zip(array.shape, spec.shape, strict=True):
                    if isinstance(want, str):
                        first, value = words.setdefault(want, (name, number))
                        if value != number:
                            problems.append(f"{want} is {value} in {first} and {number} in {name}")
        return problems
