"""Subset names, and which engine serves what is live."""

from __future__ import annotations

import pytest

from edgeemo.errors import SubsetError
from edgeemo.modality import all_subsets, parse_subset, subset_key, subset_members
from edgeemo.session.choice import choose_subset, rank_subsets
from edgeemo.session.engines.plan import Plan, Warmth, make_plan

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


def test_subsets_of_what_is_live_are_ranked_by_size() -> None:
    assert rank_subsets(("audio", "text"), all_subsets(ORDER)) == ("audio+text", "audio", "text")
    assert rank_subsets((), all_subsets(ORDER)) == ()


def planned(live: tuple[str, ...], **states: Warmth) -> Plan:
    """A plan where engines are warm unless said otherwise; ``_`` stands for ``+`` in names."""
    found = {name.replace("_", "+"): state for name, state in states.items()}
    return make_plan(
        live,
        all_subsets(ORDER),
        lambda subset: (found.get(subset, Warmth.WARM), "because" if subset in found else ""),
        lambda subsets: subsets[-1],
    )


def test_what_is_warm_serves_and_nothing_is_said() -> None:
    assert planned(ORDER) == Plan(
        "audio+video+text",
        None,
        {},
        tuple((name, f"features.{name}", f"mask.{name}") for name in ORDER),
    )


def test_a_cold_engine_is_wanted_while_the_best_warm_one_serves() -> None:
    plan = planned(ORDER, audio_video_text=Warmth.COLD, audio_video=Warmth.ASIDE)
    assert (plan.subset, plan.wanted) == ("audio+text", "audio+video+text")
    why = "live, but the engine of audio+video+text is being opened; audio+text serves meanwhile"
    assert plan.notes == {"video": why}


def test_what_was_set_aside_or_is_too_large_is_named() -> None:
    plan = planned(("audio", "text"), audio_text=Warmth.ASIDE)
    why = "live, but the engine of audio+text was set aside (because); audio serves"
    assert (plan.subset, plan.wanted, plan.notes) == ("audio", None, {"text": why})
    plan = planned(("audio", "text"), audio_text=Warmth.TOO_LARGE)
    assert plan.wanted is None
    assert plan.notes["text"].startswith("live, but the engine of audio+text does not fit the memory budget")


def test_where_nothing_fits_the_smallest_is_wanted_all_the_same() -> None:
    large = {"audio_text": Warmth.TOO_LARGE, "audio": Warmth.TOO_LARGE, "text": Warmth.TOO_LARGE}
    plan = planned(("audio", "text"), **large)
    assert (plan.subset, plan.wanted) == (None, "text")
    assert "nothing else can serve meanwhile" in plan.notes["audio"]
