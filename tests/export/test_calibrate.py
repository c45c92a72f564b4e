"""Activation ranges: measured in training, computed exactly at export."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_stem import convolution_stem

from edgeemo.errors import InputError
from edgeemo.export import Checkpoint
from edgeemo.export.calibrate import activation_ranges, error_function, exact_ranges
from edgeemo.export.gate.judge import engine_feed
from edgeemo.export.graph import bind_weights, bytes_from_model, copy_model, expose_values, fold_graph
from edgeemo.runtimes import OrtRunner

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"


def test_calibration_needs_a_batch_and_finite_numbers(tmp_path: Path) -> None:
    onnx.save(convolution_stem(), tmp_path / "stem.onnx")
    with pytest.raises(InputError, match="no batch to calibrate with"):
        activation_ranges(tmp_path / "stem.onnx", {}, [])
    x = np.full((1, 1, 8, 8), np.nan, np.float32)
    with pytest.raises(InputError, match="not finite on the calibration data"):
        activation_ranges(tmp_path / "stem.onnx", {}, [{"input.x": x}])


def test_exact_ranges_are_those_of_the_engine() -> None:
    checkpoint = Checkpoint.open(TINY)
    subset = "audio+text"
    model = fold_graph(bind_weights(checkpoint.engine_graphs[subset], checkpoint.merged_weights(subset)))
    feed = {name: array[:64] for name, array in engine_feed(subset, checkpoint.reference).items()}
    before = bytes_from_model(model)
    ranges = exact_ranges(model, feed, subset)
    assert bytes_from_model(model) == before
    with OrtRunner(bytes_from_model(expose_values(copy_model(model)))) as runner:
        found = runner.run(feed)
    assert {name for name, array in found.items() if array.dtype == np.float32} <= set(ranges)
    for name, (low, high) in ranges.items():
        values = found.get(name, feed.get(name))
        assert values is not None
        size = float(np.abs(values).max())
        # Four digits, and the error function of GELU to 1.5e-7.
        assert low == pytest.approx(values.min(), rel=6e-4, abs=1e-6 * max(size, 1.0))
        assert high == pytest.approx(values.max(), rel=6e-4, abs=1e-6 * max(size, 1.0))


def test_exact_ranges_take_windows_from_everywhere() -> None:
    x = np.zeros((1000, 1, 8, 8), np.float32)
    x[-1] = 7.0
    assert exact_ranges(convolution_stem(), {"input.x": x}, "x")["input.x"] == (0.0, 7.0)
    with pytest.raises(InputError, match=r"x: .* is not finite on the calibration data"):
        exact_ranges(convolution_stem(), {"input.x": np.full_like(x[:2], np.inf)}, "x")


def test_the_error_function_is_right_to_seven_digits() -> None:
    x = np.linspace(-6, 6, 4001)
    expected = [math.erf(value) for value in x]
    assert np.abs(error_function(x) - expected).max() < 1.6e-7
