"""What an ONNX model is made of, read with numpy alone: the device has onnxruntime and no onnx package.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Weights are
skipped over, so that the outline of a model costs by its nodes and not by its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeemo.bundle.wire import read_fields, read_varints, text_from
from edgeemo.errors import BundleError

DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}
"""Names of the element types that engines use; any other is shown as ``type <number>``."""
_EXTERNAL = 1
_MAX_DEPTH = 16
_STORED = (4, 5, 6, 7, 9, 10, 11)  # fields of TensorProto that hold its numbers


@dataclass(frozen=True)
class TensorOutline:
    """A constant of a graph.

    Attributes:
        name: of the initializer; empty for the value of an attribute.
        dtype: such as ``float32``; ``type 17`` for one that engines do not use.
        shape: its dimensions.
        stored_bytes: bytes of the numbers inside the model.
        external: what the model says about where the numbers are, in its own words (``location``,
            ``offset``, ``length``); None where they are in the model.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stored_bytes: int
    external: dict[str, str] | None


@dataclass(frozen=True)
class ValueOutline:
    """An input or output: its name, element type and shape (words where the caller chooses)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class NodeOutline:
    """A node of a graph or of one of its subgraphs.

    Attributes:
        operator: with its domain in front unless it is a standard one, ``com.microsoft.Attention``.
        name: may be empty.
        inputs: names of values; an empty one is an input that is left out.
        outputs: names of values.
        tensors: constants among its attributes.
        integers: its attributes that are one integer.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: tuple[TensorOutline, ...]
    integers: dict[str, int]


@dataclass(frozen=True)
class ModelOutline:
    """A model without its numbers.

    Attributes:
        opsets: version of each operator set, ``ai.onnx`` for the standard one.
        ir_version: of the file.
        nodes: in the order of the file, those of subgraphs behind the node that owns them.
        initializers: constants of the main graph.
        inputs: of the main graph.
        outputs: of the main graph.
        unusual: parts that no engine of ours has (functions, training, sparse tensors, ...).
    """

    opsets: dict[str, int]
    ir_version: int
    nodes: tuple[NodeOutline, ...]
    initializers: tuple[TensorOutline, ...]
    inputs: tuple[ValueOutline, ...]
    outputs: tuple[ValueOutline, ...]
    unusual: tuple[str, ...]


def outline_from_model(data: bytes, *, only_nodes_with: bytes = b"") -> ModelOutline:
    """Returns the outline of a serialized model.

    Args:
        data: the model.
        only_nodes_with: leave out nodes whose bytes do not hold this word, which is much faster.

    Raises:
        BundleError: not an ONNX model, or one whose graph is given twice (readers would disagree).
    """
    opsets: dict[str, int] = {}
    unusual: list[str] = []
    graph: memoryview | None = None
    ir_version = 0
    for number, value, payload, _ in read_fields(memoryview(data)):
        if number == 1:
            ir_version = value
        elif number == 7:
            if graph is not None:
                raise BundleError("the model holds two graphs")
            graph = payload
        elif number == 8:
            domain, version = _opset(payload)
            opsets[domain or "ai.onnx"] = version
        elif number in (20, 25):
            unusual.append("training information" if number == 20 else "functions")
    if graph is None:
        raise BundleError("not an ONNX model: no graph in it")
    nodes: list[NodeOutline] = []
    initializers, inputs, outputs = _read_graph(graph, nodes, unusual, only_nodes_with, 0)
    return ModelOutline(
        opsets, ir_version, tuple(nodes), tuple(initializers), tuple(inputs), tuple(outputs), tuple(unusual)
    )


def _opset(data: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value, payload, _ in read_fields(data):
        if number == 1:
            domain = text_from(payload)
        elif number == 2:
            version = value
    return domain, version


def _read_graph(
    data: memoryview, nodes: list[NodeOutline], unusual: list[str], word: bytes, depth: int
) -> tuple[list[TensorOutline], list[ValueOutline], list[ValueOutline]]:
    """Adds the nodes of a graph to ``nodes``; returns its initializers, inputs and outputs."""
    if depth > _MAX_DEPTH:
        raise BundleError(f"graphs are nested more than {_MAX_DEPTH} deep")
    initializers: list[TensorOutline] = []
    inputs: list[ValueOutline] = []
    outputs: list[ValueOutline] = []
    for number, _, payload, _ in read_fields(data):
        if number == 1:
            if not word or word in bytes(payload):
                _read_node(payload, nodes, unusual, word, depth)
        elif number == 5:
            initializers.append(tensor_outline(payload))
        elif number == 11:
            inputs.append(_value(payload))
        elif number == 12:
            outputs.append(_value(payload))
        elif number == 15:
            unusual.append("sparse tensors")
    return initializers, inputs, outputs


def _read_node(
    data: memoryview, nodes: list[NodeOutline], unusual: list[str], word: bytes, depth: int
) -> None:
    inputs: list[str] = []
    outputs: list[str] = []
    texts = {3: "", 4: "", 7: ""}
    tensors: list[TensorOutline] = []
    integers: dict[str, int] = {}
    graphs: list[memoryview] = []
    for number, _, payload, _ in read_fields(data):
        if number == 1:
            inputs.append(text_from(payload))
        elif number == 2:
            outputs.append(text_from(payload))
        elif number in texts:
            texts[number] = text_from(payload)
        elif number == 5:
            attribute = ""
            for part, value, inner, _ in read_fields(payload):
                if part == 1:
                    attribute = text_from(inner)
                elif part == 3:
                    integers[attribute] = value
                elif part in (5, 10):
                    tensors.append(tensor_outline(inner))
                elif part in (6, 11):
                    graphs.append(inner)
                elif part in (22, 23):
                    unusual.append("sparse tensors")
    domain = "" if texts[7] in ("", "ai.onnx") else f"{texts[7]}."
    owned: list[NodeOutline] = []
    for graph in graphs:
        inner_tensors, _, _ = _read_graph(graph, owned, unusual, word, depth + 1)
        tensors += inner_tensors
    nodes.append(
        NodeOutline(domain + texts[4], texts[3], tuple(inputs), tuple(outputs), tuple(tensors), integers)
    )
    nodes += owned


def tensor_outline(data: memoryview) -> TensorOutline:
    """Returns the outline of one TensorProto.

    Raises:
        BundleError: it is none, or says one thing twice about where its numbers are.
    """
    name, dtype, stored, external = "", 0, 0, False
    shape: list[int] = []
    where: dict[str, str] = {}
    for number, value, payload, _ in read_fields(data):
        if number == 1:
            shape += [value] if value >= 0 else read_varints(payload)
        elif number == 2:
            dtype = value
        elif number == 8:
            name = text_from(payload)
        elif number in _STORED:
            stored += len(payload)
        elif number == 13:
            external = True
            key, text = _entry(payload)
            if key in where:
                raise BundleError(f"the tensor {name!r} names its {key!r} twice")
            where[key] = text
        elif number == 14:
            external |= value == _EXTERNAL
    kind = DTYPES.get(dtype, f"type {dtype}")
    return TensorOutline(name, kind, tuple(shape), stored, where if external else None)


def _entry(data: memoryview) -> tuple[str, str]:
    found = {1: "", 2: ""}
    for number, _, payload, _ in read_fields(data):
        if number in found:
            found[number] = text_from(payload)
    return found[1], found[2]


def _value(data: memoryview) -> ValueOutline:
    name, dtype = "", 0
    shape: list[int | str] = []
    for number, _, payload, _ in read_fields(data):
        if number == 1:
            name = text_from(payload)
        elif number == 2:
            for tensor in _messages(payload, 1):
                for part, value, inner, _ in read_fields(tensor):
                    if part == 1:
                        dtype = value
                    elif part == 2:
                        shape = [_dimension(dim) for dim in _messages(inner, 1)]
    return ValueOutline(name, DTYPES.get(dtype, f"type {dtype}"), tuple(shape))


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    return (payload for number, _, payload, _ in read_fields(data) if number == wanted)


def _dimension(data: memoryview) -> int | str:
    for number, value, payload, _ in read_fields(data):
        if number == 1:
            return value
        if number == 2:
            return text_from(payload)
    return "?"
