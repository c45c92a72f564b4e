"""Subset names, and which engine serves what is live."""

from __future__ import annotations

import pytest

from edgeemo.errors import SubsetError
from edgeemo.modality import all_subsets, parse_subset, subset_key, subset_members
from edgeemo.session.choice import choose_subset

ORDER = ("audio", "video", "text")


def test_seven_subsets_singles_first() -> None:
    assert all_subsets(ORDER) == (
        "audio",
        "video",
        "text",
        "audio+video",
        "audio+text",
        "video+text",
        "audio+video+text",
    )


def test_a_subset_has_one_name_whatever_the_order() -> None:
    assert parse_subset(" text + audio ", ORDER) == subset_key(["audio", "text"], ORDER) == "audio+text"
    assert subset_members("audio+text") == ("audio", "text")


@pytest.mark.parametrize("text", ["", "+", "audio+smell"])
def test_what_is_no_subset_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(SubsetError, match="this model has: audio, video, text"):
        parse_subset(text, ORDER)


@pytest.mark.parametrize("live", [("audio",), ("audio", "text"), ORDER])
def test_a_full_bundle_serves_exactly_what_is_live(live: tuple[str, ...]) -> None:
    assert choose_subset(live, all_subsets(ORDER)) == "+".join(live)


def test_a_partial_bundle_serves_the_largest_part_of_it() -> None:
    assert choose_subset(ORDER, ("audio", "video", "video+text")) == "video+text"
    assert choose_subset(("audio", "video"), ("audio", "video", "video+text")) == "audio"


def test_nothing_live_is_nothing_served() -> None:
    assert choose_subset((), all_subsets(ORDER)) is None
    assert choose_subset(("text",), ("audio", "audio+video")) is None
