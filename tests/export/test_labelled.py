"""How much accuracy a variant may lose."""

from __future__ import annotations

import pytest

from edgeemo.errors import GateError
from edgeemo.export import LabelledResult
from edgeemo.export.gate.labelled import failures, require_accuracy
from edgeemo.export.gate.thresholds import Thresholds


def result(variant: str, accuracy: float, n: int = 1000, subset: str = "audio") -> LabelledResult:
    return LabelledResult("speech dev", subset, variant, n, accuracy, accuracy, 0.1)


def test_half_a_point_may_be_lost() -> None:
    limits = Thresholds()
    assert not failures([result("fp32", 0.700), result("int8", 0.695)], limits)
    failed = failures([result("fp32", 0.700), result("int8", 0.694), result("fp16", 0.71)], limits)
    assert list(failed) == [("audio", "int8")]
    assert failed["audio", "int8"] == (
        "the engine audio (int8) has an accuracy of 69.4% on speech dev (n = 1000), fp32 70.0%; expected to "
        "lose at most 0.5%"
    )


def test_two_items_of_a_small_set_may_change() -> None:
    limits = Thresholds()
    assert not failures([result("fp32", 60 / 80, 80), result("int8", 58 / 80, 80)], limits)
    assert failures([result("fp32", 60 / 80, 80), result("int8", 57 / 80, 80)], limits)


def test_each_subset_and_data_set_has_a_yardstick_of_its_own() -> None:
    assert not failures([result("fp32", 0.9), result("int8", 0.5, subset="text")], Thresholds())


def test_only_what_may_be_dropped_is() -> None:
    results = [result("fp32", 0.7), result("int8", 0.6)]
    assert list(require_accuracy(results, Thresholds(), ["audio"])) == [("audio", "int8")]
    with pytest.raises(GateError, match=r"the engine audio \(int8\) has an accuracy of 60\.0%"):
        require_accuracy(results, Thresholds(), ["text"])
