"""The events about engines, in words for people and plain data for programs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeemo.runtimes.base import Runner
from edgeemo.session.engines.aside import Place, place_words
from edgeemo.session.events import EventKind

log = logging.getLogger(__name__)

Tell = Callable[[EventKind, str, Mapping[str, Any]], object]


def tell_nobody(kind: EventKind, message: str, detail: Mapping[str, Any]) -> None:
    """Where nobody wants to know."""


def called(runner: Runner) -> str:
    """Returns what an engine is called in events, such as ``audio.int8 on cpu``."""
    return f"{runner.engine}.{runner.variant} on {runner.backend}"


def tell_failures(tell: Tell, failed: Sequence[tuple[Runner, str]], instead: Runner | None) -> None:
    """Tells of what failed in one hop and of what answers it.

    Args:
        tell: takes the events.
        failed: runners with the reasons.
        instead: what answers in their place; None where nothing can.
    """
    for runner, why in failed:
        answers = f"{called(instead)} answers" if instead else "nothing can answer in its place"
        message = f"{called(runner)} was set aside: {why}; {answers}"
        log.warning("%s", message)
        detail = {**_detail(runner, why), "answers": called(instead) if instead else None}
        tell(EventKind.ENGINE_SET_ASIDE, message, detail)


def tell_not_opened(tell: Tell, name: str, place: Place, why: str) -> None:
    """Tells of what could not be opened, or failed when it was warmed.

    Args:
        tell: takes the event.
        name: a subset or ``stem.<modality>``.
        place: as what.
        why: the reason.
    """
    message = f"{name} could not be opened ({place_words(place)}) and was set aside: {why}"
    log.warning("%s", message)
    backend, variant = place
    detail = {"engine": name, "variant": variant, "backend": backend, "reason": why, "answers": None}
    tell(EventKind.ENGINE_SET_ASIDE, message, detail)


def tell_change(tell: Tell, runner: Runner, why: str, before: Runner | None) -> None:
    """Tells that another engine serves.

    Args:
        tell: takes the event.
        runner: the one that serves.
        why: what it was opened for.
        before: the one that served; None where none was open.
    """
    message = f"{called(runner)} serves from the next reading on: {why}"
    log.info("%s", message)
    detail = {**_detail(runner, why), "before": called(before) if before else None}
    tell(EventKind.ENGINE_CHANGED, message, detail)


def _detail(runner: Runner, why: str) -> dict[str, Any]:
    return {"engine": runner.engine, "variant": runner.variant, "backend": runner.backend, "reason": why}
