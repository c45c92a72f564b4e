"""A runner is known by its answers on the bundle's own windows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgeemo.bundle import Bundle
from edgeemo.errors import BackendError, BundleError
from edgeemo.runtimes.base import Array, Runner
from edgeemo.runtimes.open import open_engine, open_stem
from edgeemo.runtimes.reference import compare_with_reference
from edgeemo.shipped import DEFAULT_BUNDLE


class Altered(Runner):
    """Another runner whose answers are changed."""

    def __init__(self, runner: Runner, *, scale: float) -> None:
        super().__init__(
            engine=runner.engine,
            variant=runner.variant,
            backend=runner.backend,
            inputs=runner.inputs,
            outputs=runner.outputs,
        )
        self._runner, self._scale = runner, np.float32(scale)

    def _run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return {name: array * self._scale for name, array in self._runner.run(feed).items()}

    def _close(self) -> None:
        self._runner.close()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(DEFAULT_BUNDLE)


@pytest.mark.parametrize("variant", ["int8", "fp16"])
def test_every_engine_and_stem_that_ships_agrees(bundle: Bundle, variant: str) -> None:
    for subset in bundle.manifest.engines:
        with open_engine(bundle, subset, variant=variant) as runner:
            found = compare_with_reference(runner, bundle, subset)
            assert found.agrees, found
            assert found.windows == 16
    for modality in bundle.manifest.stems:
        with open_stem(bundle, modality, variant=variant) as runner:
            found = compare_with_reference(runner, bundle, f"stem.{modality}")
            assert found.agrees, found


@pytest.mark.parametrize("scale", [0.5, -1.0, 0.0])
def test_other_answers_do_not_agree(bundle: Bundle, scale: float) -> None:
    with Altered(open_engine(bundle, "audio+video"), scale=scale) as runner:
        found = compare_with_reference(runner, bundle, "audio+video")
        assert not found.agrees
        assert "differs by" in str(found)


def test_a_changed_label_alone_is_enough(bundle: Bundle) -> None:
    with open_engine(bundle, "audio") as right:
        agreeing = compare_with_reference(right, bundle, "audio")
    assert agreeing.agrees
    assert not type(agreeing)(agreeing.rms_error, 1, agreeing.windows).agrees


def test_numbers_that_are_not_finite_are_a_failure(bundle: Bundle) -> None:
    with (
        Altered(open_engine(bundle, "text"), scale=np.nan) as runner,
        pytest.raises(BackendError, match="not finite"),
    ):
        compare_with_reference(runner, bundle, "text")


def test_a_name_that_the_bundle_does_not_have_is_refused(bundle: Bundle) -> None:
    with open_engine(bundle, "text") as runner, pytest.raises(BundleError, match="smell"):
        compare_with_reference(runner, bundle, "smell")
