"""The face stem, its augmentation and its training run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("cv2", reason="needs OpenCV")
pytest.importorskip("safetensors", reason="needs safetensors")

import cv2
import torch

from edgeemo.datasets.faces import FaceImages
from edgeemo.errors import TrainingError
from edgeemo.training.augment.face import FaceJitter, augment_faces
from edgeemo.training.live import fit_face as fitting
from edgeemo.training.stems.face import FaceClassifier, FaceStem, TrainableFaceStem

STILL = FaceJitter(**dict.fromkeys(FaceJitter.__dataclass_fields__, 0.0))


@pytest.fixture
def trained() -> TrainableFaceStem:
    """A stem whose batch normalisation is anything but the identity."""
    torch.manual_seed(3)
    stem = TrainableFaceStem()
    for module in stem.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            if module.affine:
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias)
    return stem.eval()  # type: ignore[no-any-return]  # torch is untyped here


def crops(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1, 48, 48, generator=torch.Generator().manual_seed(seed))


def test_folded_stem_gives_the_same_features(trained: TrainableFaceStem) -> None:
    x = crops(6).reshape(2, 3, 48, 48)
    with torch.no_grad():
        expected = (trained(x) + trained(x.flip(3))) / 2
        got, untrained = trained.fold()(x), FaceStem()(x)
    assert got.shape == (2, 3, 64)
    # Rounding of nine layers of up to 864 products: 9 * sqrt(864) * 2^-24 of the largest feature.
    assert float((got - expected).abs().max()) < 9 * 864**0.5 * 2**-24 * float(expected.abs().max())
    assert float((untrained - expected).abs().max()) > 0.1


def test_a_face_and_its_mirror_image_are_the_same(trained: TrainableFaceStem) -> None:
    stem, x = trained.fold(), crops(6).reshape(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(stem(x.flip(3)), stem(x), rtol=0, atol=1e-5)
        assert float((trained(x.flip(3)) - trained(x)).abs().max()) > 1e-3


def test_crops_do_not_influence_each_other(trained: TrainableFaceStem) -> None:
    stem, x = trained.fold(), crops(4)
    other = x.clone()
    other[1:] = crops(3, seed=9)
    with torch.no_grad():
        together, beside_others, in_a_row = stem(x), stem(other), stem(x.reshape(1, 4, 48, 48))
    torch.testing.assert_close(beside_others[0], together[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(in_a_row[0], together[:, 0], rtol=0, atol=1e-5)


def test_budgets() -> None:
    stem, products = FaceStem(), 0

    def count(layer: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal products
        places = out.shape[-1] * out.shape[-2] if out.ndim == 4 else 1
        products += layer.weight.numel() * places

    for layer in [*stem.layers, stem.pool, stem.project]:
        layer.register_forward_hook(count)
    stem(crops(1))
    assert sum(p.numel() for p in stem.parameters()) <= 300_000
    assert products <= 25_000_000


def faces(count: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (count, 6, 6), dtype=np.uint8)
    return np.stack([cv2.resize(one, (48, 48), interpolation=cv2.INTER_LINEAR) for one in coarse])


def test_augmentation_is_drawn_from_the_generator_alone() -> None:
    original = faces(8)
    before = original.copy()
    one = augment_faces(original, np.random.default_rng(5))
    np.testing.assert_array_equal(one, augment_faces(original, np.random.default_rng(5)))
    np.testing.assert_array_equal(original, before)
    assert one.shape == original.shape
    assert one.dtype == np.uint8
    assert (one != augment_faces(original, np.random.default_rng(6))).any()


def test_no_jitter_changes_nothing_and_mirror_mirrors() -> None:
    original = faces(8)
    np.testing.assert_array_equal(augment_faces(original, np.random.default_rng(0), STILL), original)
    mirrored = augment_faces(
        original, np.random.default_rng(0), FaceJitter(**STILL.__dict__ | {"mirror": 1.0})
    )
    np.testing.assert_array_equal(mirrored, original[:, :, ::-1])


def write_ferplus(data: Path, *, train: int, val: int) -> None:
    """Bright lower halves are happy, bright upper halves are sad."""
    rng = np.random.default_rng(0)
    happy = rng.random(train + val) < 0.5
    images, votes = [], np.zeros((train + val, 10), np.uint8)
    for index, low in enumerate(happy):
        image = rng.integers(0, 60, (48, 48)).astype(np.uint8)
        image[24:, :] += np.uint8(150 * low)
        image[:24, :] += np.uint8(150 * (not low))
        images.append(cv2.imencode(".jpg", image)[1].ravel())
        votes[index, 1 if low else 3] = 10
    (data / "ferplus").mkdir()
    np.savez(
        data / "ferplus" / "ferplus_jpeg.npz",
        jpeg=np.concatenate(images),
        offsets=np.cumsum([0, *map(len, images)]),
        votes=votes,
        split=np.repeat([0, 1], [train, val]).astype(np.uint8),
    )


def test_stem_learns_and_resumes_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "BATCH", 16)
    write_ferplus(tmp_path, train=112, val=40)
    whole = fitting.fit_face(tmp_path, tmp_path / "whole", epochs=3)
    assert whole["accuracy"] > 0.9
    assert whole["faces"] == 40
    assert whole["uar"] == pytest.approx((whole["recall.happy"] + whole["recall.sad"]) / 2)
    assert json.loads((tmp_path / "whole" / "metrics.json").read_text()) == whole

    def kill(done: int, _: int, __: dict[str, float]) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitting.fit_face(tmp_path, tmp_path / "killed", epochs=3, progress=kill)
    with pytest.raises(TrainingError, match="train the face stem first"):
        fitting.load_face_stem(tmp_path / "killed")
    fitting.fit_face(tmp_path, tmp_path / "killed", epochs=3)  # goes on with the third epoch
    stems = [fitting.load_face_stem(tmp_path / name) for name in ("whole", "killed")]
    for name, tensor in stems[0].state_dict().items():
        torch.testing.assert_close(stems[1].state_dict()[name], tensor, msg=name)
    assert not stems[0].training

    logits = fitting.face_logits(FaceClassifier(stems[0]).eval(), faces(5))
    assert logits.shape == (5, 7)
    assert logits.dtype == np.float32


def test_stem_never_sees_rows_of_the_trunk() -> None:
    count = 40
    images = np.zeros((count, 48, 48), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None]
    share = np.ones(count, np.float32)
    share[3] = 0  # nobody voted for any of the seven
    kept = fitting._train_rows(
        FaceImages(images, np.zeros((count, 7), np.float32), share, np.zeros(count, np.int64))
    )
    assert kept.images[:, 0, 0].tolist() == [k for k in range(count) if k % 8 and k != 3]


def test_too_few_faces_are_refused(tmp_path: Path) -> None:
    write_ferplus(tmp_path, train=20, val=5)
    with pytest.raises(TrainingError, match="leaves 17 faces to train on; at least 128"):
        fitting.fit_face(tmp_path, tmp_path / "out", epochs=1)
