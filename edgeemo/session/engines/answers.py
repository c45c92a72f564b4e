"""Whether an engine on another backend gives the answers that it must."""

from __future__ import annotations

from edgeemo.bundle import Bundle
from edgeemo.errors import BackendError, BundleError
from edgeemo.runtimes.base import Runner
from edgeemo.runtimes.reference import compare_runners, compare_with_reference
from edgeemo.session.engines.attempt import sentence_of


def check_answers(bundle: Bundle, name: str, offered: Runner, serving: Runner | None) -> None:
    """Refuses a runner whose answers are others than a variant's may be; see `edgeemo.runtimes.reference`.

    The bundle's reference windows tell; where it has none, what serves now does.

    Args:
        bundle: that the runner was opened from.
        name: a subset or ``stem.<modality>``.
        offered: the runner to check.
        serving: what answers now; None where nothing does.

    Raises:
        BackendError: it fails, gives numbers that are not finite, or other answers; the message says how far.
    """
    called = f"{offered.engine}.{offered.variant} on {offered.backend}"
    try:
        try:
            agreement = compare_with_reference(offered, bundle, name)
        except BundleError:
            if serving is None:
                raise
            agreement = compare_runners(offered, serving, name)
    except Exception as error:  # an accelerator's library raises what it likes
        raise BackendError(f"{called} was not taken: {sentence_of(error)}") from error
    if not agreement.agrees:
        raise BackendError(f"{called} was not taken, it gives other answers: it {agreement}")
