"""A real ONNX network with the inputs and outputs of YuNet, whose faces are coloured marks.

A trained YuNet is no part of the project. This one has the same interface (one picture in, class,
objectness, box and landmark maps at strides 8, 16 and 32 out), so that the real ``cv2.FaceDetectorYN``
reads it, decodes it and removes overlapping boxes; its answers are known by construction:

A face is where a block of 8x8 pixels, aligned to 8, is bright in red (255). Green says how large the face
is: `green_of_size`. Blue says how far a face of 64 pixels is turned to the picture's right: `blue_of_yaw`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_SMALLEST, _LARGEST = 16.0, 160.0  # sizes of faces, pixels, that green goes from 0 to 250 for
_MOST_TURNED = 1.0  # how far the nose leaves the middle, in eye distances, at blue = 250 (0 at 125)
_EYES_APART, _EYES_UP, _MOUTH_DOWN = 0.387, 0.113, 0.310  # of the size of the face, from its middle


def green_of_size(size: float) -> int:
    """The green level of a face of `size` pixels."""
    return round(250 * (size - _SMALLEST) / (_LARGEST - _SMALLEST))


def blue_of_yaw(degrees: float) -> int:
    """The blue level of a face turned by `degrees`, for a nose that is half an eye distance long."""
    return round(125 + 125 * 0.5 * math.tan(math.radians(degrees)) / _MOST_TURNED)


def put_face(
    frame: NDArray[np.uint8], face: NDArray[np.uint8], column: int, row: int, *, yaw: float = 0.0
) -> None:
    """Draws a square picture of a face with the mark in its middle that makes it a face.

    Args:
        frame: (H, W, 3) BGR, changed.
        face: (S, S, 3) BGR, S even.
        column: of the 8x8 block that the middle of the face is in.
        row: of that block.
        yaw: degrees to the picture's right.
    """
    size = len(face)
    left, top = column * 8 + 4 - size // 2, row * 8 + 4 - size // 2
    height, width = frame.shape[:2]
    inside = frame[max(0, top) : top + size, max(0, left) : left + size]
    inside[:] = face[max(0, -top) : height - top, max(0, -left) : width - left]
    frame[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = (
        blue_of_yaw(yaw),
        green_of_size(size),
        255,
    )


def write_yunet(path: Path) -> Path:
    """Writes the network."""
    nodes: list[onnx.NodeProto] = []
    tensors: dict[str, NDArray[Any]] = {}

    def tensor(name: str, values: object, kind: type = np.float32) -> str:
        tensors[name] = np.array(values, kind)
        return name

    # (1, 3, H, W) BGR -> the mean of each 8x8 block.
    nodes.append(helper.make_node("AveragePool", ["input"], ["mean8"], kernel_shape=[8, 8], strides=[8, 8]))
    for stride in (8, 16, 32):
        name = "mean8"
        if stride > 8:
            name = f"mean{stride}"
            step = stride // 8
            nodes.append(
                helper.make_node(
                    "AveragePool", ["mean8"], [name], kernel_shape=[step] * 2, strides=[step] * 2
                )
            )
        weight, bias = _maps(stride)
        tensor(f"w{stride}", weight[:, :, None, None])
        tensor(f"b{stride}", bias)
        nodes.append(helper.make_node("Conv", [name, f"w{stride}", f"b{stride}"], [f"all{stride}"]))
        start = 0
        for kind, count in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            part = f"{kind}_{stride}"
            for end, value in (("from", start), ("to", start + count)):
                tensor(f"{part}_{end}", [value], np.int64)
            nodes.append(
                helper.make_node(
                    "Slice", [f"all{stride}", f"{part}_from", f"{part}_to", "channels"], [f"{part}_map"]
                )
            )
            source = f"{part}_map"
            if kind in ("cls", "obj"):
                nodes.append(helper.make_node("Clip", [source, "zero", "one"], [f"{part}_clipped"]))
                source = f"{part}_clipped"
            nodes.append(helper.make_node("Transpose", [source], [f"{part}_last"], perm=[0, 2, 3, 1]))
            tensor(f"{part}_shape", [1, -1, count], np.int64)
            nodes.append(helper.make_node("Reshape", [f"{part}_last", f"{part}_shape"], [part]))
            start += count
    tensor("channels", [1], np.int64)
    tensor("zero", 0.0)
    tensor("one", 1.0)
    side = 640
    outputs = [
        helper.make_tensor_value_info(
            f"{kind}_{stride}", TensorProto.FLOAT, [1, (side // stride) ** 2, count]
        )
        for kind, count in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
        for stride in (8, 16, 32)
    ]
    graph = helper.make_graph(
        nodes,
        "marks",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])],
        outputs,
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.save(model, str(path))
    return path


def _maps(stride: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (16, 3) and bias (16,) from mean blue, green, red to scores, box and landmarks."""
    weight, bias = np.zeros((16, 3), np.float32), np.zeros(16, np.float32)
    if stride > 8:
        return weight, bias  # no scores: faces are found at stride 8 alone
    weight[0:2, 2], bias[0:2] = 1 / 10, -24.5  # red 255 -> 1, 245 -> 0
    bias[2:4] = 0.5  # the middle of the block
    bias[4:6] = math.log(64 / 8)  # its size counts where boxes overlap, nowhere else
    slope = (_LARGEST - _SMALLEST) / 250
    for number, (across, down) in enumerate(
        (
            (-_EYES_APART / 2, -_EYES_UP),
            (_EYES_APART / 2, -_EYES_UP),
            (0.0, 0.1),
            (-0.15, _MOUTH_DOWN),
            (0.15, _MOUTH_DOWN),
        )
    ):
        for axis, part in enumerate((across, down)):
            weight[6 + 2 * number + axis, 1] = part * slope / 8
            bias[6 + 2 * number + axis] = 0.5 + part * _SMALLEST / 8
    # The nose leaves the middle with blue, by parts of the eye distance of a face of 64 pixels.
    weight[10, 0] = _MOST_TURNED * _EYES_APART * 64 / 125 / 8
    bias[10] -= _MOST_TURNED * _EYES_APART * 64 / 8
    return weight, bias
