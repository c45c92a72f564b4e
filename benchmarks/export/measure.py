"""Everything that the page shows, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.export.ceiling import ceiling_graph, products_from_graph
from benchmarks.export.contest import (
    Time,
    bound_call_of,
    call_of,
    open_session,
    profile_operators,
    time_in_turns,
)
from benchmarks.export.engines import engines_after_each_pass, our_engine, standard_engine
from benchmarks.export.naive import AS_TRAINED, MERGED, naive_networks
from edgeemo.export.checkpoint import Checkpoint
from edgeemo.export.passes.names import shorten_names
from edgeemo.export.variants.dynamic import quantize_products
from edgeemo.modality import subset_members

VARIANTS = ("fp32", "int8")
DEFAULTS = "as trained, all threads"

Tell = Callable[[str], object]


def measure(checkpoint: Checkpoint, *, rounds: int, tell: Tell) -> dict[str, Any]:
    """Returns the figures of a checkpoint.

    Args:
        checkpoint: of a family that `edgeemo.training` can build again.
        rounds: timed calls of each contestant.
        tell: called with what is being done.
    """
    tell("exporting the whole network by hand")
    naive = naive_networks(checkpoint.path)
    sizes = {
        network: {kind: model.ByteSize() for kind, model in pair.items()} for network, pair in naive.items()
    }
    sessions = {
        (network, kind): open_session(model)
        for network, pair in naive.items()
        for kind, model in pair.items()
    }
    sessions[DEFAULTS, "fp32"] = open_session(naive[AS_TRAINED]["fp32"], defaults=True)
    subsets = {}
    for subset in checkpoint.subsets:
        tell(f"engine {subset}")
        subsets[subset] = _measure_engine(checkpoint, subset, sessions, rounds)
    single, whole = checkpoint.order[0], tuple(checkpoint.subsets)[-1]
    passes, operators = {}, {}
    for subset in (single, whole):
        tell(f"passes of {subset}")
        passes[subset] = _measure_passes(checkpoint, subset, rounds)
        engine = our_engine(checkpoint, subset)
        operators[subset] = {kind: profile_operators(engine[kind], rounds) for kind in VARIANTS}
    return {
        "model_id": checkpoint.model_id,
        "rounds": rounds,
        "naive": {
            network: {
                kind: {"bytes": size, "nodes": len(naive[network][kind].graph.node)}
                for kind, size in pair.items()
            }
            for network, pair in sizes.items()
        },
        "engines": subsets,
        "passes": passes,
        "operators": operators,
    }


def _measure_engine(
    checkpoint: Checkpoint, subset: str, naive: dict[tuple[str, str], Any], rounds: int
) -> dict[str, Any]:
    members = subset_members(subset)
    ours = our_engine(checkpoint, subset)
    products = products_from_graph(standard_engine(checkpoint, subset))
    calls: dict[tuple[str, str], Callable[[], object]] = {
        key: call_of(session, members) for key, session in naive.items()
    }
    for kind in VARIANTS:
        calls["ours", kind] = call_of(open_session(ours[kind]))
        graph = ceiling_graph(products, integers=kind == "int8")
        calls["ceiling", kind] = bound_call_of(open_session(graph))
    times = time_in_turns({"|".join(key): call for key, call in calls.items()}, rounds)
    return {
        "multiply_adds": sum(product.multiply_adds for product in products),
        "products": len(products),
        "bytes": {kind: model.ByteSize() for kind, model in ours.items()},
        "nodes": {kind: len(model.graph.node) for kind, model in ours.items()},
        "times": {name: asdict(time) for name, time in times.items()},
    }


def _measure_passes(checkpoint: Checkpoint, subset: str, rounds: int) -> list[dict[str, Any]]:
    stages = engines_after_each_pass(checkpoint, subset)
    graphs = {name: {"fp32": model, "int8": quantize_products(model)} for name, model in stages.items()}
    last = next(reversed(graphs))
    graphs["names"] = {kind: shorten_names(_copy(model)) for kind, model in graphs[last].items()}
    calls = {
        f"{name}|{kind}": call_of(open_session(model))
        for name, pair in graphs.items()
        for kind, model in pair.items()
    }
    times: dict[str, Time] = time_in_turns(calls, rounds)
    return [
        {
            "pass": name,
            "nodes": len(pair["fp32"].graph.node),
            "bytes": {kind: model.ByteSize() for kind, model in pair.items()},
            "times": {kind: asdict(times[f"{name}|{kind}"]) for kind in VARIANTS},
        }
        for name, pair in graphs.items()
    ]


def _copy(model: Any) -> Any:
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


__all__ = ["AS_TRAINED", "DEFAULTS", "MERGED", "VARIANTS", "measure"]
