"""Evaluation shows labelled data to the engines as a live session would, and counts what they say."""

from __future__ import annotations

import io
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
from live_like import LABELS, PRIOR, TEMPERATURE, TEXT_SPEC, D, make_weights, write_live_like
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeemo.bundle import Bundle, SubsetSpec, probabilities_from_logits, probabilities_from_row
from edgeemo.datasets.speech import read_speech
from edgeemo.errors import DatasetError, InputError, SubsetError
from edgeemo.evaluation.accuracy import evaluate
from edgeemo.evaluation.windows import run_in_batches, speech_windows
from edgeemo.features.face import normalize_face
from edgeemo.features.text import text_window
from edgeemo.runtimes import OrtRunner, open_engine, open_stem
from edgeemo.session.settings import Settings
from edgeemo.session.streams.audio import AudioStream

RATE = 16000
SECONDS = (0.3, 1.7, 4.0, 5.2, 6.5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_live_like(tmp_path_factory.mktemp("bundle"))


def sound(number: int) -> NDArray[np.int16]:
    """A clip of noise that swells and fades, in 16 bits."""
    rng = np.random.default_rng(number)
    count = int(SECONDS[number] * RATE)
    swell = 0.3 * np.sin(np.linspace(0.1, 3, count)) ** 2
    return np.round(rng.standard_normal(count) * swell * 8000).clip(-32768, 32767).astype(np.int16)


def wav(samples: NDArray[np.int16]) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return data.getvalue()


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Five clips in the layout of the speech corpora; any name will do for the folder."""
    folder = tmp_path / "some_speech"
    folder.mkdir()
    rows = ["file\tspeaker\tsex\temotion_raw\tlabel7\tsplit"]
    with zipfile.ZipFile(folder / "audio_flac.zip", "w", zipfile.ZIP_STORED) as archive:
        for number in range(len(SECONDS)):
            archive.writestr(f"{number}.flac", wav(sound(number)))
            rows.append(f"{number}.flac\tA\tF\tx\t{LABELS[number]}\tval")
        archive.writestr("bored.flac", wav(sound(0)))
        rows.append("bored.flac\tA\tF\tboredom\t-\tval")
    (folder / "meta.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_probabilities_by_hand() -> None:
    p = probabilities_from_logits(np.array([[2.0, 0.0]]), SubsetSpec(temperature=2.0, prior=(0.25, 0.75)))
    assert p[0, 0] == pytest.approx(0.25 * np.e / (0.25 * np.e + 0.75))


def test_a_hop_follows_the_same_rule_in_plain_floats() -> None:
    spec = SubsetSpec(temperature=0.7, prior=(0.5, 0.3, 0.2))
    for logits in np.random.default_rng(0).normal(size=(50, 3), scale=20).astype(np.float32):
        expected = probabilities_from_logits(logits, spec)
        np.testing.assert_allclose(probabilities_from_row(logits.tolist(), spec), expected, rtol=1e-12)


def test_a_clip_gets_the_mean_of_what_a_session_would_say(bundle: Bundle, speech: Path) -> None:
    """The live stream is pushed the same sound, ended with silence up to a whole block."""
    guesses = []
    for number in range(len(SECONDS)):
        samples = sound(number).astype(np.float32) / np.float32(32768)
        samples = np.pad(samples, (0, -len(samples) % (RATE // 2)))
        hops = len(samples) // (RATE // 2)
        said = []
        with open_stem(bundle, "audio") as stem, open_engine(bundle, "audio") as engine:
            stream = AudioStream(bundle.manifest.modality("audio"), stem, Settings())
            stream.push(samples, rate_hz=RATE, time_s=0.0)
            for hop in range(1, hops + 1):
                stream.advance(hop / 2)
                if hop >= 8 or hop == hops:
                    features, mask = stream.window(hop / 2)
                    assert mask.sum() == min(hop, 8) * 5
                    logits = engine.run({"features.audio": features, "mask.audio": mask})["logits"]
                    said.append(probabilities_from_logits(logits, bundle.manifest.subsets["audio"])[0])
        assert len(said) == max(1, hops - 7)
        guesses.append(np.mean(said, axis=0))
    (result,) = evaluate(bundle, speech, "val").results
    expected = np.zeros((7, 7), int)
    for number, p in enumerate(guesses):
        expected[number, p.argmax()] += 1
    assert np.array_equal(result.metrics.confusion, expected)
    confidences = np.array([p.max() for p in guesses])
    hit = np.array([p.argmax() == number for number, p in enumerate(guesses)])
    by_bin = np.ceil(confidences * 15)
    ece = sum(abs((confidences - hit)[by_bin == place].sum()) for place in set(by_bin)) / len(SECONDS)
    assert result.metrics.ece == pytest.approx(ece, abs=1e-5)
    assert (result.subset, result.variant, result.stem_variant, result.backend) == (
        "audio",
        "fp32",
        "fp32",
        "cpu",
    )
    assert (result.metrics.n, result.empty) == (5, 0)


def test_windows_of_clips_are_those_of_a_session(bundle: Bundle, speech: Path) -> None:
    spec = bundle.manifest.modality("audio")
    with read_speech(speech, "val") as corpus, open_stem(bundle, "audio") as stem:
        batches = list(speech_windows(corpus, np.arange(5), spec, stem, hop_s=0.5))
    items = np.concatenate([batch.item for batch in batches])
    masks = np.concatenate([batch.mask for batch in batches]).sum(axis=1)
    assert items.tolist() == [0, 1, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4]
    assert masks[:3].tolist() == [5, 20, 40]
    assert (masks[2:] == 40).all()
    assert batches[-1].finished == 5


def test_faces_get_the_answer_computed_by_hand(bundle: Bundle, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV")
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (40, 6, 6), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    jpeg = [cv2.imencode(".jpg", image)[1].reshape(-1) for image in images]
    decoded = np.stack([cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) for data in jpeg])
    votes = np.zeros((40, 10), np.uint8)
    columns = np.arange(40) % 10  # contempt, unknown and "no face" do not count
    votes[np.arange(40), columns] = 9
    folder = tmp_path / "faces"
    folder.mkdir()
    np.savez(
        folder / "ferplus_jpeg.npz",
        jpeg=np.concatenate(jpeg),
        offsets=np.cumsum([0] + [len(data) for data in jpeg]),
        votes=votes,
        split=np.ones(40, np.uint8),
    )
    weights = make_weights()
    features = normalize_face(decoded).reshape(40, -1) @ weights["stem.video"]
    logits = features @ weights["head.video"] / TEMPERATURE + np.log(PRIOR)
    label_of_column = {0: 0, 1: 1, 2: 6, 3: 2, 4: 3, 5: 5, 6: 4}
    rows = [row for row in range(40) if columns[row] in label_of_column]
    expected = np.zeros((7, 7), int)
    for row in rows:
        expected[label_of_column[columns[row]], logits[row].argmax()] += 1
    for split in ("val", "dev"):
        (result,) = evaluate(bundle, folder, split).results
        assert result.metrics.n == len(rows) == 28
        assert np.array_equal(result.metrics.confusion, expected)


def test_texts_get_the_answer_computed_by_hand_and_silence_gets_the_prior(
    bundle: Bundle, tmp_path: Path
) -> None:
    texts = ["I am so happy today", "this is terrible , I hate it", "what ?", "...", "a b c d", "-"]
    labels = ["joy", "anger", "surprise", "joy,neutral", "neutral", "sadness"]
    folder = tmp_path / "comments"
    folder.mkdir()
    lines = [f"{n}\tx\t{label}\t{text}" for n, (label, text) in enumerate(zip(labels, texts, strict=True))]
    (folder / "dev.tsv").write_text("\n".join(["id\tlabels28\tlabels7\ttext", *lines]) + "\n")
    weights = make_weights()
    expected = np.zeros((7, 7), int)
    for text, label in zip(texts, (1, 3, 6, -1, 0, 2), strict=True):
        if label >= 0:
            ids, mask = text_window(text, TEXT_SPEC)
            assert bool(mask.any()) == (text != "-")
            mean = weights["stem.text"][ids].sum(axis=1)[mask > 0].mean(axis=0) if mask.any() else np.zeros(D)
            scores = mean @ weights["head.text"] / TEMPERATURE * mask.any() + np.log(PRIOR)
            expected[label, scores.argmax()] += 1
    evaluation = evaluate(bundle, folder, "val")
    (result,) = evaluation.results
    assert np.array_equal(result.metrics.confusion, expected)
    assert (result.metrics.n, result.empty) == (5, 1)
    assert evaluation.notes[0].endswith("fear, disgust")
    assert "happy (1)" in evaluation.notes[1]


def test_progress_ends_at_all_items(bundle: Bundle, speech: Path) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(bundle, speech, "val", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
    assert seen == sorted(seen)


def test_features_of_other_front_ends_are_refused_with_both_widths(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "mosi"
    folder.mkdir()
    np.savez(
        folder / "mosi_trimodal.npz",
        text=np.zeros((2, 100)),
        audio=np.zeros((2, 73)),
        video=np.zeros((2, 100)),
    )
    with pytest.raises(
        DatasetError, match=r"width audio 73, video 100, text 100; .*width audio 4, video 4, text 4"
    ):
        evaluate(bundle, folder, "dev")


def test_folders_that_cannot_be_measured_say_why(bundle: Bundle, tmp_path: Path, speech: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    with pytest.raises(DatasetError, match=r"it holds: nothing\. Known: speech"):
        evaluate(bundle, media, "val")
    (media / "clip.mp4").write_bytes(b"")
    with pytest.raises(DatasetError, match="recordings without labels"):
        evaluate(bundle, media, "val")
    with pytest.raises(DatasetError, match="is not a folder"):
        evaluate(bundle, tmp_path / "missing", "val")
    with pytest.raises(DatasetError, match=r"split 'test'; splits: val"):
        evaluate(bundle, speech, "test")
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "dev.tsv").write_text("a\tb\n")
    with pytest.raises(DatasetError, match="has the columns a, b"):
        evaluate(bundle, odd, "dev")


def test_isear_without_dev_says_which_splits_there_are(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "isear"
    folder.mkdir()
    (folder / "isear.tsv").write_text(
        "subject\tsplit\temotion\ttext\n1\ttrain\tjoy\tI won\n2\ttrain\tguilt\tI hid\n"
    )
    with pytest.raises(DatasetError, match=r"no rows of split 'dev'; it has \['train'\]"):
        evaluate(bundle, folder, "dev")
    assert evaluate(bundle, folder, "train").results[0].metrics.n == 1


def test_subsets_that_the_data_cannot_serve_are_refused(bundle: Bundle, speech: Path) -> None:
    assert evaluate(bundle, speech, "val", subsets=["audio"]).results[0].subset == "audio"
    with pytest.raises(SubsetError, match=r"serves the subset 'audio' and no other; asked for: audio\+video"):
        evaluate(bundle, speech, "val", subsets=["audio+video", "audio"])
    with pytest.raises(SubsetError, match="unknown modality 'smell'"):
        evaluate(bundle, speech, "val", subsets=["smell"])
    with pytest.raises(InputError, match="no variant 'int4'"):
        evaluate(bundle, speech, "val", variant="int4")


def test_the_result_is_plain_data(bundle: Bundle, speech: Path) -> None:
    plain = evaluate(bundle, speech, "val").to_json()
    assert plain["dataset"] == "some_speech"
    assert plain["results"][0]["metrics"]["n"] == 5


def test_quantized_engines_see_one_item_at_a_time_as_in_a_session() -> None:
    """DynamicQuantizeLinear scales over the whole batch, so a loud neighbour would change the answer."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rounding",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
    )
    data = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()
    x = np.array([[0.011, 0.02], [50.0, 100.0]], np.float32)
    answers = {}
    for variant in ("int8", "fp32"):
        with OrtRunner(data, variant=variant) as runner:
            answers[variant] = run_in_batches(runner, {"x": x})["y"]
            alone = np.concatenate([runner.run({"x": row[None]})["y"] for row in x])
    np.testing.assert_array_equal(answers["int8"], alone)
    assert not np.array_equal(answers["fp32"], alone)
