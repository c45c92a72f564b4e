"""What happens to words on their way in: recogniser errors, fillers, missing words and marks.

All functions work on words as `edgeemo.features.text.tokenize` gives them and take their random
generator as an argument, so that a run can be repeated. Capitals need no augmentation: the front-end
drops them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FILLERS = ("uh", "um", "like", "well", "you", "know", "so", "mm")

_SOUND_ALIKE = (
    ("their", "there", "they're"),
    ("your", "you're"),
    ("its", "it's"),
    ("to", "too", "two"),
    ("were", "we're", "where"),
    ("no", "know"),
    ("new", "knew"),
    ("hear", "here"),
    ("right", "write"),
    ("then", "than"),
    ("by", "buy", "bye"),
    ("for", "four"),
    ("one", "won"),
    ("son", "sun"),
    ("whose", "who's"),
    ("passed", "past"),
    ("wait", "weight"),
    ("weather", "whether"),
    ("would", "wood"),
    ("break", "brake"),
    ("dear", "deer"),
    ("our", "hour", "are"),
    ("piece", "peace"),
    ("of", "off"),
    ("lose", "loose"),
    ("and", "an"),
    ("mad", "made"),
    ("sad", "said"),
)
_ALIKE_FROM_WORD = {
    word: tuple(other for other in group if other != word) for group in _SOUND_ALIKE for word in group
}


@dataclass(frozen=True)
class TextNoise:
    """How often each kind of damage strikes.

    Attributes:
        drop_marks: probability that a text loses every mark, emoticon and emoji, as from a recogniser.
        drop_apostrophes: probability that a text loses its apostrophes ("dont").
        drop_placeholders: probability that a text loses its ``[name]`` placeholders.
        drop_word: probability of each word to vanish.
        sound_alike: probability of each word that has one to become a word that sounds the same.
        swap_letters: probability of each word of four letters or more to have two neighbours swapped,
            or one lost.
        filler: probability of a filler before each word.
    """

    drop_marks: float = 0.4
    drop_apostrophes: float = 0.25
    drop_placeholders: float = 0.3
    drop_word: float = 0.06
    sound_alike: float = 0.05
    swap_letters: float = 0.03
    filler: float = 0.02


def damage_words(words: list[str], noise: TextNoise, rng: np.random.Generator) -> list[str]:
    """Returns the words as a careless typist or a speech recogniser might have left them.

    Never returns an empty list for a non-empty one: where everything would go, the words come back as
    they were.

    Args:
        words: as `tokenize` returns them.
        noise: how often each kind of damage strikes.
        rng: source of all chance.
    """
    marks = rng.random() < noise.drop_marks
    apostrophes = rng.random() < noise.drop_apostrophes
    placeholders = rng.random() < noise.drop_placeholders
    chance = rng.random((len(words), 4))
    damaged: list[str] = []
    for word, (gone, alike, swapped, filled) in zip(words, chance.tolist(), strict=True):
        spoken = word[0].isalnum()
        placeholder = word[0] == "["
        if (marks and not spoken and not placeholder) or (placeholders and placeholder):
            continue
        if gone < noise.drop_word:
            continue
        if filled < noise.filler:
            damaged.append(FILLERS[int(rng.integers(len(FILLERS)))])
        if alike < noise.sound_alike and word in _ALIKE_FROM_WORD:
            others = _ALIKE_FROM_WORD[word]
            word = others[int(rng.integers(len(others)))]  # noqa: PLW2901
        elif swapped < noise.swap_letters and spoken and len(word) > 3:
            word = _swap_letters(word, rng)  # noqa: PLW2901
        damaged.append(word.replace("'", "") if apostrophes and spoken else word)
    return damaged or list(words)


def crop_words(words: list[str], longest: int, rng: np.random.Generator) -> list[str]:
    """Returns at most `longest` neighbouring words, from a random place in a longer text."""
    if len(words) <= longest:
        return list(words)
    start = int(rng.integers(len(words) - longest + 1))
    return words[start : start + longest]


def _swap_letters(word: str, rng: np.random.Generator) -> str:
    """Returns the word with two inner neighbours exchanged, or with one letter lost."""
    at = int(rng.integers(1, len(word) - 1))
    if rng.random() < 0.5:
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
