"""Module names of an adapter, found again in a graph that was exported with more, or less, around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeemo.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from edgeemo.export.adapters.peft import PeftFolder
    from edgeemo.export.adapters.products import Sites

_LISTED = 12


def shared_prefix(modules: Sequence[str], known: Collection[str]) -> tuple[str, str]:
    """Returns what to take off, and what to put before, the modules' names to find most of them.

    PEFT may have adapted ``BertForSequenceClassification`` (``bert.encoder...``) where ``BertModel``
    (``encoder...``) was exported, or the exported network may have been wrapped (``model.encoder...``).
    One of the two differs, by the same words for all modules; names as they are come first.

    Args:
        modules: names in the adapter.
        known: names in the graph.
    """
    votes: Counter[tuple[str, str]] = Counter()
    names = set(known)
    for module in modules:
        parts = module.split(".")
        for start in range(1, len(parts)):
            if ".".join(parts[start:]) in names:
                votes[".".join(parts[:start]) + ".", ""] += 1
        for name in names:
            if name.endswith(f".{module}"):
                votes["", name.removesuffix(module)] += 1
    exact = sum(module in names for module in modules)
    best = max(votes.values(), default=0)
    leading = [change for change, count in votes.items() if count == best]
    return leading[0] if best > exact and len(leading) == 1 else ("", "")


def renamed(module: str, change: tuple[str, str]) -> str:
    """Returns a module's name in the graph, given what `shared_prefix` said."""
    off, before = change
    return before + (module.removeprefix(off) if off and module.startswith(off) else module)


def resolve_names(
    peft: PeftFolder, sites: Sites, parameters: Collection[str], path: Path, skip: Collection[str]
) -> dict[str, str]:
    """Returns the adapter's names -> the graph's, for modules and whole parameters.

    Args:
        peft: the adapter.
        sites: the graph's linear layers.
        parameters: the graph's initializers.
        path: the model, for messages.
        skip: the adapter's modules that the graph need not have.

    Raises:
        CheckpointError: some are not there; all of them are listed, with what is known about why.
        InputError: what is to be skipped is there, or is nothing of the adapter's.
    """
    saved = {name: name.rpartition(".") for name in peft.saved}
    modules = list(peft.halves) or [parts[0] for parts in saved.values()]
    change = shared_prefix(modules, {*sites.found, *sites.refused})
    names = {module: renamed(module, change) for module in peft.halves}
    missing = [module for module, name in names.items() if name not in sites.found]
    for name, (module, _, parameter) in saved.items():
        place = renamed(module, change)
        names[name] = f"{place}.{parameter}"
        of_layer = parameter in ("weight", "bias") and place in sites.found
        if names[name] not in parameters and not of_layer:
            missing.append(name)
    wrong = sorted(set(skip) - set(missing))
    if wrong:
        what = "is in the graph" if wrong[0] in names else "is no module of the adapter"
        raise InputError(
            f"{wrong[0]!r} {what}; only these can be skipped: {_some(missing) or 'none, all are there'}"
        )
    missing = [name for name in missing if name not in skip]
    if missing:
        reasons = {name: sites.refused[names[name]] for name in missing if names[name] in sites.refused}
        listed = [f"{name} ({why})" for name, why in reasons.items()]
        listed += [name for name in missing if name not in reasons]
        raise CheckpointError(
            f"{path}: {len(missing)} of the adapter's {len(names)} modules are not in the graph by name: "
            f"{_some(listed)}. The graph has: {_some(sorted(sites.found)) or 'no named linear layer'}. "
            "Nothing was merged. Is it the model that the adapter was trained over? Export it with names "
            "kept, torch.onnx.export(model, ..., dynamo=True, optimize=False), and skip by name what the "
            "exported graph has no use for"
        )
    return {name: found for name, found in names.items() if name not in skip}


def _some(names: list[str]) -> str:
    more = f", ... ({len(names) - _LISTED} more)" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
