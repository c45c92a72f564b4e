"""How the models of a repository are to be served: by what, on what, and how many requests at once."""

from __future__ import annotations

from dataclasses import dataclass

from edgeemo.errors import InputError

BACKENDS = ("onnxruntime", "python")
INSTANCE_GROUPS = ("gpu", "cpu")
VARIANTS = ("fp16", "fp32", "int8")
_LARGEST_BATCH = 4096


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """What the ``config.pbtxt`` of every model says about serving it.

    Attributes:
        backend: of Triton: ``onnxruntime``, or ``python``, whose ``model.py`` runs the same graphs.
        instance_group: ``gpu`` or ``cpu``.
        instances: copies of each model that run side by side (on each GPU).
        max_batch: most windows in one run of a model.
        max_queue_delay_us: how long a request may wait for others to share its run, in microseconds.
        variant: of engines and stems; None takes ``fp16`` for GPUs and ``int8`` for CPUs.

    Raises:
        InputError: an unknown word, a number out of range, or ``int8`` on GPUs.
    """

    backend: str = "onnxruntime"
    instance_group: str = "gpu"
    instances: int = 1
    max_batch: int = 32
    max_queue_delay_us: int = 2000
    variant: str | None = None

    def __post_init__(self) -> None:
        _check_word("backend of Triton", self.backend, BACKENDS)
        _check_word("instance group", self.instance_group, INSTANCE_GROUPS)
        _check_range("instances", self.instances, 1, 64)
        _check_range("windows in a batch", self.max_batch, 1, _LARGEST_BATCH)
        _check_range("microseconds in the queue", self.max_queue_delay_us, 0, 1_000_000)
        if self.variant is not None:
            _check_word("variant for Triton", self.variant, VARIANTS)
        if self.variant == "int8" and self.instance_group == "gpu":
            raise InputError(
                "int8 engines are for CPUs: onnxruntime has no int8 kernels for GPUs and would send every "
                "operator back to the CPU. Choose fp16 or fp32 for GPUs, or the instance group cpu"
            )

    @property
    def chosen_variant(self) -> str:
        """The variant that is served."""
        return self.variant or ("fp16" if self.instance_group == "gpu" else "int8")

    @property
    def preferred_batches(self) -> tuple[int, ...]:
        """Batches that are run at once when they are full: powers of two from 4 on, and the largest."""
        powers = [2**power for power in range(2, 13) if 2**power < self.max_batch]
        return (*powers, self.max_batch) if self.max_batch > 1 else ()


def _check_word(what: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise InputError(f"no {what} {word!r}; there are: {', '.join(known)}")


def _check_range(what: str, number: int, low: int, high: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise InputError(f"{number!r} {what}; expected a whole number from {low} to {high}")
