"""Where a graph multiplies with a weight, and which module of the network that was.

Three things say which module a product belongs to, and exporters keep one or another of them: the
initializer's name (``encoder.layer.0.attention.self.query.weight``), the product's own name
(``/encoder/layer.0/attention/self/query/MatMul``, as torch's older exporter writes it while it renames the
weight to ``onnx::MatMul_123``), and its metadata (``pkg.torch.onnx.name_scopes``, torch's newer exporter).
Which way round a weight is stored follows from how the graph uses it, never from its shape.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx

WEIGHT = ".weight"
BY_NAME, BY_SCOPE = "name", "scope"
_SCOPES = "pkg.torch.onnx.name_scopes"
# What PEFT calls the layer inside a layer of its own.
_WRAPPED = ".base_layer"
_COUNT = re.compile(r"_\d+(?=\.|$)")


@dataclass(frozen=True)
class Product:
    """One MatMul or Gemm with a stored weight.

    Attributes:
        node: its position in the graph.
        slot: which of its inputs the weight is.
        transposed: the weight is stored (in, out).
        takes_in_out: the node itself takes (in, out); it differs where a Transpose lies between.
        scope: the module that the exporter says it belongs to, or "".
    """

    node: int
    slot: int
    transposed: bool
    takes_in_out: bool
    scope: str


@dataclass(frozen=True)
class Site:
    """One module's weight and the products that use it.

    Attributes:
        module: dotted name.
        tensor: the initializer.
        products: at least one, all the same way round.
        whole: nothing else in the graph uses the initializer.
        found_by: ``"name"`` or ``"scope"``.
    """

    module: str
    tensor: str
    products: tuple[Product, ...]
    whole: bool
    found_by: str

    @property
    def transposed(self) -> bool:
        """Tells whether the initializer is stored (in, out)."""
        return self.products[0].transposed


@dataclass(frozen=True)
class Sites:
    """The linear layers of a graph by their modules' names, and why others cannot be merged into."""

    found: Mapping[str, Site]
    refused: Mapping[str, str]


def find_sites(model: onnx.ModelProto) -> Sites:
    """Returns the linear layers of a graph; the numbers of its initializers are not looked at."""
    graph = model.graph
    users = _users(graph)
    found: dict[str, Site] = {}
    refused: dict[str, str] = {}
    hints: dict[str, str] = {}
    for tensor in graph.initializer:
        if len(tensor.dims) != 2:
            continue
        named = _module_of(tensor.name)
        products, others = _products(graph, users, tensor.name)
        owners = dict(_owners(named, products, others))
        for module, own in owners.items():
            whole = not others and len(own) == len(products)
            site = Site(module, tensor.name, tuple(own), whole, BY_NAME if module == named else BY_SCOPE)
            before = found.get(module)
            if twins := _calls_of(module, products):
                refused[module] = (
                    f"its weight {tensor.name!r} also goes into {', '.join(twins)}, and names do not say "
                    "whether that is this module called again or another one"
                )
            elif len({product.transposed for product in own}) > 1:
                refused[module] = f"its weight {tensor.name!r} is used both ways round"
            elif before is not None and before.found_by == site.found_by:
                refused[module] = f"{before.tensor!r} and {tensor.name!r} both work inside it"
            elif before is None or site.found_by == BY_NAME:
                found[module] = site
        if named and named not in owners:
            hints[named] = _why_not(graph, tensor.name, products, others)
    kept = {module: site for module, site in found.items() if module not in refused}
    return Sites(kept, {name: why for name, why in (hints | refused).items() if name not in kept})


def transposed_modules(models: Iterable[onnx.ModelProto]) -> frozenset[str]:
    """Returns the modules whose weight some of the graphs take as stored (in, out)."""
    sites = (site for model in models for site in find_sites(model).found.values())
    return frozenset(site.module for site in sites if site.transposed)


def scope_of(node: onnx.NodeProto) -> str:
    """Returns the module that a node belongs to, "" where the exporter did not keep it."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            try:
                scopes = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return ""
            if isinstance(scopes, list) and len(scopes) > 1 and isinstance(scopes[-2], str):
                return scopes[-2].removesuffix(_WRAPPED)
            return ""
    parts = node.name.split("/")
    return ".".join(parts[1:-1]).removesuffix(_WRAPPED) if node.name.startswith("/") else ""


def _owners(named: str, products: list[Product], others: list[str]) -> Iterator[tuple[str, list[Product]]]:
    """Yields each module that a weight belongs to, with its products.

    Exporters store equal weights once, so one initializer may belong to several modules. A weight that
    bears a module's name and is used nowhere but in one place is that module's, whoever multiplies.
    """
    groups: dict[str, list[Product]] = {}
    for product in products:
        groups.setdefault(product.scope, []).append(product)
    alone = len(groups) == 1 and not others and (len(products) == 1 or "" not in groups)
    if named and named not in groups and alone:
        yield named, products
    elif "" not in groups:
        yield from groups.items()


def _calls_of(module: str, products: list[Product]) -> list[str]:
    """Returns the scopes that may be further calls of ``module``: torch's older exporter counts them up."""
    scopes = {product.scope for product in products}
    return sorted(
        scope for scope in scopes if scope != module and _COUNT.sub("", scope) == _COUNT.sub("", module)
    )


def _why_not(graph: onnx.GraphProto, tensor: str, products: list[Product], others: list[str]) -> str:
    if not products:
        return f"its weight {tensor!r} goes into {', '.join(others) or 'nothing'}, not into a matrix product"
    users = [*(repr(graph.node[product.node].name) for product in products), *others]
    return f"{', '.join(users)} share its weight {tensor!r}, and nothing says which module each belongs to"


def _module_of(tensor: str) -> str:
    if not tensor.endswith(WEIGHT):
        return ""
    return tensor.removesuffix(WEIGHT).removesuffix(_WRAPPED)


def _users(graph: onnx.GraphProto) -> dict[str, list[tuple[int, int]]]:
    """Returns value -> (node, input).

    The input is -1 where a subgraph of the node uses the value, -2 where it is an output of the graph.
    """
    users: dict[str, list[tuple[int, int]]] = {}
    for position, node in enumerate(graph.node):
        for slot, name in enumerate(node.input):
            users.setdefault(name, []).append((position, slot))
        for name in _captured(node):
            users.setdefault(name, []).append((position, -1))
    for value in graph.output:
        users.setdefault(value.name, []).append((0, -2))
    return users


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for nested in inner.node:
                yield from nested.input
                yield from _captured(nested)
            yield from (value.name for value in inner.output)


def _products(
    graph: onnx.GraphProto, users: Mapping[str, list[tuple[int, int]]], tensor: str
) -> tuple[list[Product], list[str]]:
    """Returns the products that use an initializer, and the names of whatever else does."""
    products: list[Product] = []
    others: list[str] = []
    paths = [(tensor, False)]  # value, turned by the Transposes so far
    while paths:
        value, turned = paths.pop(0)
        for position, slot in users.get(value, []):
            node = graph.node[position]
            if slot == -2:
                others.append("an output of the graph")
            elif slot == 0 and node.op_type == "Transpose" and _swaps(node):
                paths.append((node.output[0], not turned))
            elif slot == 0 and node.op_type == "Identity":
                paths.append((node.output[0], turned))
            elif (taken := _takes_in_out(node, slot)) is None:
                others.append(f"{node.op_type} {node.name!r}")
            else:
                products.append(Product(position, slot, taken != turned, taken, scope_of(node)))
    return products, others


def _swaps(node: onnx.NodeProto) -> bool:
    order = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), [1, 0])
    return order == [1, 0]


def _takes_in_out(node: onnx.NodeProto, slot: int) -> bool | None:
    """Tells whether a node takes its weight as (in, out); None where it is no plain product with one."""
    if node.domain not in ("", "ai.onnx") or slot != 1:
        return None
    if node.op_type == "MatMul":
        return True
    if node.op_type == "Gemm":
        options = {attribute.name: attribute for attribute in node.attribute}
        if "alpha" in options and options["alpha"].f != 1.0:
            return None
        return "transB" not in options or options["transB"].i == 0
    return None
