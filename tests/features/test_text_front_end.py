"""Words and ids: what they are, that any text is survived, that long texts cost no more than short ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemo.errors import InputError
from edgeemo.features import text as front_end
from edgeemo.features.text import TextSpec, last_words, text_window, tokenize, word_ids

SPEC = TextSpec()
ANY_TEXT = st.text(st.characters(codec=None), max_size=200)  # surrogates and control characters included


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I'M SO HAPPY!!!", ["i'm", "so", "happy", "!!"]),
        ("don\u2019t", ["don't"]),
        ("sooooo good", ["soo", "good"]),
        ("well... 1,000 times?!", ["well", "..", "0", "times", "?!"]),
        ("thanks [NAME] :) \U0001f602\U0001f602", ["thanks", "[name]", ":)", "\U0001f602"]),
        ("\uff28\uff45\uff4c\uff4c\uff4f, world.", ["hello", "world"]),
        ("a\x00b\ud800c\u200bd", ["a", "b", "c", "d"]),
        ("", []),
        (" \t\n,", []),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


def test_what_a_speech_recogniser_leaves_out_changes_no_word() -> None:
    assert tokenize("Oh, I never expected that.") == tokenize("oh i never expected that")


def test_ids_are_the_same_everywhere() -> None:
    # Golden: crc32 of the UTF-8 bytes; a trained table is worthless when these change.
    assert word_ids(tokenize("so happy!"), SPEC)[:, :4].tolist() == [
        [2652, 10510, 13764, 13062],
        [7013, 9460, 13145, 16014],
        [4955, 9843, 0, 0],
    ]


def test_ids_stay_in_their_regions() -> None:
    ids = word_ids(tokenize("extraordinarily good, she said :( \U0001f62d and it's done"), SPEC)
    assert ids.dtype == np.int64
    assert ids.shape[1] == SPEC.ids_per_word
    words, pairs, grams = ids[:, 0], ids[:, 1], ids[:, 2:]
    assert ((words >= 1) & (words <= SPEC.word_buckets)).all()
    assert ((pairs > SPEC.word_buckets) & (pairs <= SPEC.word_buckets + SPEC.pair_buckets)).all()
    used = grams[grams > 0]
    assert ((used > SPEC.word_buckets + SPEC.pair_buckets) & (used < SPEC.rows)).all()


def test_a_misspelt_word_shares_most_n_grams() -> None:
    right, wrong = (set(word_ids([word], SPEC)[0, 2:]) - {0} for word in ("happiness", "hapiness"))
    other = set(word_ids(["umbrella"], SPEC)[0, 2:]) - {0}
    assert len(right & wrong) > 2
    assert len(right & other) <= 1


def test_an_id_depends_on_the_word_before_only_through_the_pair() -> None:
    first, second = word_ids(["not", "good"], SPEC)[1], word_ids(["very", "good"], SPEC)[1]
    assert np.flatnonzero(first != second).tolist() == [1]


def test_regions_can_be_switched_off() -> None:
    plain = TextSpec(ids_per_word=1, pair_buckets=0, ngram_buckets=0)
    ids = word_ids(["not", "good"], plain)
    assert ids.shape == (2, 1)
    assert (ids > 0).all()
    assert plain.rows == 1 + plain.word_buckets


@given(ANY_TEXT)
def test_any_text_is_survived(text: str) -> None:
    ids, mask = text_window(text, SPEC)
    count = min(len(tokenize(text)), SPEC.max_words)
    assert ids.shape == (SPEC.max_words, SPEC.ids_per_word)
    assert mask.dtype == np.float32
    assert mask.tolist() == [1.0] * count + [0.0] * (SPEC.max_words - count)
    assert (ids[:count, 0] > 0).all()
    assert not ids[count:].any()
    assert ids.max() < SPEC.rows


PIECES = st.one_of(ANY_TEXT, st.sampled_from(["why ", "\U0001f602 ", "\U0001f602", "! ", "so" * 30]))


@given(st.lists(PIECES, min_size=1))
def test_the_end_of_a_long_text_reads_as_the_whole_would(parts: list[str]) -> None:
    text = "".join(parts)
    text *= 2_500 // max(1, len(text)) + 1  # longer than what is read at first
    assert last_words(text, 3) == tokenize(text)[-3:]


@pytest.mark.parametrize(
    "text",
    [
        "we are here ".ljust(5_000) + "now",  # the words lie before the first tail
        "x" * 1_100 + " y" + " " * 900 + "z z",  # the tail begins inside a word
        "ab " + "cd" * 700 + " e f",
        "\U0001f602 " * 800 + "a b",  # one token, however often repeated
    ],
)
def test_the_tail_of_a_long_text_never_begins_inside_a_word(text: str) -> None:
    assert last_words(text, 3) == tokenize(text)[-3:]


def test_only_the_end_of_a_long_text_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(text: str) -> list[str]:
        read.append(len(text))
        return tokenize(text)

    monkeypatch.setattr(front_end, "tokenize", counted)
    last_words("some words " * 1_000_000, 32)
    assert sum(read) <= 2_048


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x1" * 1_000_000, ["0", "x", "0"]),  # no white space at all
        ("ab" * 1_000_000, ["ab" * 16]),
        ("so " + " " * 2_000_000, []),
        ("\U0001f602 " * 1_000_000, ["\U0001f602"]),
    ],
    ids=["numbers", "one word", "blanks", "one emoji"],
)
def test_no_text_is_read_beyond_a_bounded_end(
    text: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counted(text: str) -> list[str]:
        read.append(len(text))
        return tokenize(text)

    monkeypatch.setattr(front_end, "tokenize", counted)
    assert last_words(text, 3) == words
    assert sum(read) <= 2 * 65_536


@pytest.mark.parametrize("word", ["", "\ud800", "\x00", " "])
def test_words_from_elsewhere_have_ids_too(word: str) -> None:
    assert word_ids([word], SPEC)[0, 0] > 0


def test_of_an_enormous_text_the_last_words_count() -> None:
    text = "ignored " * 2_000_000 + "I am so very glad"
    ids, mask = text_window(text, SPEC)
    assert mask.all()
    assert (ids[-5:] == word_ids(["ignored", *tokenize("I am so very glad")], SPEC)[1:]).all()


def test_one_enormous_word_is_cut() -> None:
    assert tokenize("ab" * 100_000) == ["ab" * 16]


def test_spec_survives_json() -> None:
    spec = TextSpec(max_words=16, ids_per_word=6)
    assert TextSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.to_json()["kind"] == "hashed_ngrams"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "log_mel"}, "expected a front-end of kind 'hashed_ngrams'"),
        ({"extra": 1}, "unknown fields \\['extra'\\]"),
        ({"max_words": 0}, "max_words is 0, expected at least 1"),
        ({"word_buckets": "many"}, "word_buckets is 'many'"),
        ({"ngram_max": 2}, "ngram_max is 2, expected at least ngram_min = 3"),
    ],
)
def test_a_wrong_spec_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TextSpec.from_json({**SPEC.to_json(), **change})


def test_a_spec_with_a_missing_field_is_refused() -> None:
    data = SPEC.to_json()
    del data["word_buckets"]
    with pytest.raises(InputError, match="missing \\['word_buckets'\\]"):
        TextSpec.from_json(data)


@pytest.mark.parametrize("wrong", [None, b"bytes", 3, ["a"]])
def test_what_is_not_text_is_refused(wrong: object) -> None:
    for read in (tokenize, lambda text: text_window(text, SPEC)):
        with pytest.raises(InputError, match="expected str"):
            read(wrong)  # type: ignore[arg-type]
