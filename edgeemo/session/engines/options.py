"""Which engines a session opens, and how."""

from __future__ import annotations

from dataclasses import dataclass

from edgeemo.errors import InputError

_MOST_THREADS = 256


@dataclass(frozen=True)
class EngineOptions:
    """Which engines a session opens, and how.

    Attributes:
        subsets: the subsets that may be served; None for all in the bundle.
        variant: ``"fp32"``, ``"int8"``, or ``"auto"`` for the fastest here, as measured.
        backend: ``"cpu"``, or ``"auto"`` for the best that works here.
        threads: threads of each engine, 1 to 256.
        memory_budget_mb: megabytes that open stems and engines may take together, as estimated (see
            `engines.memory`); None for all engines. The stems are always open; then come the engines of
            single modalities, the largest subset and the others, as far as it goes. What stays cold is
            opened when it is wanted, and what was not used for longest is closed for it.

    Raises:
        InputError: the budget is not above 0, or the number of threads is none.
    """

    subsets: tuple[str, ...] | None = None
    variant: str = "auto"
    backend: str = "auto"
    threads: int = 1
    memory_budget_mb: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.threads, int) or not 1 <= self.threads <= _MOST_THREADS:
            raise InputError(
                f"threads must be a whole number from 1 to {_MOST_THREADS}, got {self.threads!r}"
            )
        budget = self.memory_budget_mb
        if budget is not None and not 0 < budget < float("inf"):
            raise InputError(f"memory_budget_mb must be a number of megabytes above 0, or None; got {budget}")

    @property
    def memory_budget_bytes(self) -> float:
        """The budget in bytes; infinite where there is none."""
        return float("inf") if self.memory_budget_mb is None else self.memory_budget_mb * 1e6
