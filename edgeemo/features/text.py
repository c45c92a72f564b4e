"""Words to hashed ids: what the text stem reads instead of a vocabulary.

Each word becomes a short row of ids: the word itself, the pair it makes with the word before it, and
the character n-grams inside it, so that misspelt and unseen words still resemble known ones. The
hash is ``zlib.crc32``, which is the same on every machine and needs no file. Bucketed n-grams follow
Bojanowski et al., "Enriching Word Vectors with Subword Information", TACL 2017.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.features.spec import FrontEndSpec

_LONGEST_WORD = 32  # characters; what follows in a longer "word" is noise or an attack
_CACHED_WORDS = 32_768
_FIRST_TAIL = 1_024  # characters that hold 32 words of nearly every text
_LONGEST_TAIL = 65_536  # characters; what lies before them is not read, whatever they hold

_EMOJI = "\U0001f000-\U0001f3fa\U0001f400-\U0001faff\u2600-\u27bf"  # without the skin tones 1f3fb-1f3ff
_TOKEN = re.compile(
    r"(?P<placeholder>\[(?:name|religion)\])"
    r"|(?P<emoticon>(?:[:;=][-^']?[()\[\]dpo/|*3]|<3|:'\()(?!\w))"
    r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)"
    r"|(?P<number>\d[\d.,:]*)"
    r"|(?P<emoji>[" + _EMOJI + r"])"
    r"|(?P<mark>[!?]+|\.{2,})"
)
_LONG_RUN = re.compile(r"(.)\1{2,}", re.DOTALL)
_SPACE = re.compile(r"\s")
_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u02bc\u0060\u00b4\uff07"), "'")


@dataclass(frozen=True)
class TextSpec(FrontEndSpec):
    """How words become ids; part of the checkpoint and the bundle, equal in training and live.

    The id space is cut into three regions, so that a frequent word never shares a row with an n-gram:
    0 is padding, then ``word_buckets``, ``pair_buckets`` and ``ngram_buckets`` rows.

    Attributes:
        max_words: the newest words that one window may hold.
        ids_per_word: ids of one word, K; words with fewer are padded with 0.
        word_buckets: rows for whole words.
        pair_buckets: rows for a word together with the one before it; 0 switches pairs off.
        ngram_buckets: rows for character n-grams; 0 switches them off.
        ngram_min: characters of the shortest n-gram, the word's boundaries ``<`` and ``>`` included.
        ngram_max: characters of the longest n-gram.
    """

    KIND: ClassVar[str] = "hashed_ngrams"

    max_words: int = 32
    ids_per_word: int = 14
    word_buckets: int = 8191
    pair_buckets: int = 4096
    ngram_buckets: int = 4096
    ngram_min: int = 3
    ngram_max: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{field.name} is {value!r}, expected a whole number")
            least = 0 if field.name in ("pair_buckets", "ngram_buckets") else 1
            if value < least:
                raise InputError(f"{field.name} is {value}, expected at least {least}")
        if self.ngram_max < self.ngram_min:
            raise InputError(f"ngram_max is {self.ngram_max}, expected at least ngram_min = {self.ngram_min}")

    @property
    def rows(self) -> int:
        """Rows of the embedding table, padding row 0 included."""
        return 1 + self.word_buckets + self.pair_buckets + self.ngram_buckets


def tokenize(text: str) -> list[str]:
    """Returns the words of a text, lower case, with the emoji and punctuation that carry emotion.

    Capitals, typographic apostrophes, commas and full stops are dropped, runs of three or more of a
    letter shrink to two ("sooo" -> "soo"), numbers become "0". What a speech recogniser leaves out
    (capitals, punctuation) therefore changes little.

    Args:
        text: anything; control characters and lone surrogates separate words and are dropped.

    Raises:
        InputError: ``text`` is not a str.
    """
    if not isinstance(text, str):
        raise InputError(f"text is {type(text).__name__}, expected str")
    clean = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).lower()
    words: list[str] = []
    for match in _TOKEN.finditer(clean):
        kind, word = match.lastgroup, match.group()
        if kind == "number":
            word = "0"
        elif kind == "mark":
            word = _plain_mark(word)
        elif kind == "word":
            word = _LONG_RUN.sub(r"\1\1", word)[:_LONGEST_WORD]
        elif kind == "emoji" and words and words[-1] == word:
            continue
        words.append(word)
    return words


def last_words(text: str, count: int) -> list[str]:
    """Returns ``tokenize(text)[-count:]``, reading only as much of the end as that takes.

    Of a text whose last 65,536 characters hold fewer words (one endless word, blanks, one emoji again
    and again) these characters alone count.

    Args:
        text: of any length; the time depends on ``count``, not on the length.
        count: at least 1.

    Raises:
        InputError: ``text`` is not a str.
    """
    if not isinstance(text, str):
        raise InputError(f"text is {type(text).__name__}, expected str")
    size = max(_FIRST_TAIL, 32 * count)
    longest = max(_LONGEST_TAIL, size)
    while size < min(len(text), longest):
        tail = text[-size:]
        # No token contains white space, so from the first one on, the tail reads as the whole would;
        # one more word than asked for, because the first emoji may repeat the one before the cut.
        space = _SPACE.search(tail)
        words = tokenize(tail[space.end() :]) if space else []
        if len(words) > count:
            return words[-count:]
        size *= 4
    return tokenize(text[-longest:])[-count:]


def word_ids(words: Sequence[str], spec: TextSpec) -> NDArray[np.int64]:
    """Returns the ids of each word, which depend on the word and on the one before it.

    Args:
        words: as `tokenize` returns them; any other string has ids too.
        spec: sizes of the id regions.

    Returns:
        (n, K) ids in [0, spec.rows), 0 = padding; the first id of a word is never 0.
    """
    ids = np.zeros((len(words), spec.ids_per_word), np.int64)
    before = ""
    for row, word in enumerate(words):
        own = _own_ids(word, spec)
        if spec.pair_buckets:
            pair = _hash(f"{before} {word}") % spec.pair_buckets + 1 + spec.word_buckets
            own = (own[0], pair, *own[1:])[: spec.ids_per_word]
        ids[row, : len(own)] = own
        before = word
    return ids


def text_window(text: str, spec: TextSpec) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the ids of the newest words of a text and the mask of the words that exist.

    Args:
        text: of any length; empty text gives no words.
        spec: sizes of the window and of the id regions.

    Returns:
        ids (max_words, K), the words from position 0 on; mask (max_words,), 1 where there is a word.

    Raises:
        InputError: ``text`` is not a str.
    """
    words = last_words(text, spec.max_words)
    ids = np.zeros((spec.max_words, spec.ids_per_word), np.int64)
    mask = np.zeros(spec.max_words, np.float32)
    ids[: len(words)] = word_ids(words, spec)
    mask[: len(words)] = 1.0
    return ids, mask


def _plain_mark(marks: str) -> str:
    """Returns one of ``! !! ? ?? ?! ..`` for a run of marks."""
    if marks[0] == ".":
        return ".."
    if "!" in marks and "?" in marks:
        return "?!"
    return marks[:2]


def _hash(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


@lru_cache(maxsize=_CACHED_WORDS)
def _own_ids(word: str, spec: TextSpec) -> tuple[int, ...]:
    """Returns the ids that need no neighbour: the word, then n-grams spread evenly over it."""
    ids = [_hash(word) % spec.word_buckets + 1]
    room = spec.ids_per_word - 1 - bool(spec.pair_buckets)
    if spec.ngram_buckets and room > 0 and word[:1].isalpha():
        framed = f"<{word}>"
        grams = [
            framed[start : start + size]
            for size in range(spec.ngram_min, spec.ngram_max + 1)
            for start in range(len(framed) - size + 1)
            if size < len(framed)
        ]
        if len(grams) > room:
            grams = [grams[int(at)] for at in np.linspace(0, len(grams) - 1, room)]
        base = 1 + spec.word_buckets + spec.pair_buckets
        ids += [_hash(f"#{gram}") % spec.ngram_buckets + base for gram in grams]
    return tuple(ids)
