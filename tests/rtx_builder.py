"""Plans for laptop GPUs from TensorRT for RTX, built on a machine without one."""

from __future__ import annotations

from typing import Any

GENERATIONS = ("SM75", "SM86", "SM89", "SM120")  # Turing, Ampere, Ada, Blackwell


def build_plan(model: bytes, generations: tuple[str, ...] = GENERATIONS) -> int:
    """Returns the bytes of the plan; raises `ValueError` with the parser's or the builder's words.

    The network is strongly typed, as every TensorRT from 11 on has it.
    """
    import tensorrt_rtx as trt

    class Log(trt.ILogger):  # type: ignore[misc]  # the package is untyped
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        raise ValueError("; ".join(log.errors) or "the parser refused it without a reason")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for position in range(network.num_inputs):
        value = network.get_input(position)
        shape = tuple(1 if size < 0 else size for size in value.shape)
        profile.set_shape(value.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = len(generations)
    for position, generation in enumerate(generations):
        config.set_compute_capability(getattr(trt.ComputeCapability, generation), position)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ValueError("; ".join(log.errors) or "the builder gave no plan and no reason")
    return int(plan.nbytes)
