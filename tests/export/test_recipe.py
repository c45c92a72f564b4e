"""Recipes: one canonical text, strict reading."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemo.errors import ExportError, InputError
from edgeemo.export import Recipe, read_recipe
from edgeemo.export.recipe import GraphRecipe, recipe_from_toml, toml_from_recipe

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)
KEYS = st.tuples(st.sampled_from(["engines", "stems"]), NAMES, st.sampled_from(["int8", "int8-trt"]))
COSTS = st.dictionaries(NAMES, st.floats(0, 1, allow_nan=False), max_size=3)
Graphs = dict[tuple[str, str, str], GraphRecipe]
GRAPHS = st.dictionaries(KEYS, st.builds(GraphRecipe, st.just("dynamic"), COSTS), max_size=4)


@given(graphs=GRAPHS, reason=NAMES)
def test_what_is_written_is_read_back(graphs: Graphs, reason: str) -> None:
    recipe = Recipe(graphs, {("engines", "left", "fp16"): reason})
    text = toml_from_recipe(recipe)
    assert recipe_from_toml(text) == recipe
    assert toml_from_recipe(recipe_from_toml(text)) == text


def test_order_does_not_matter_and_the_text_can_be_read_by_people() -> None:
    static = GraphRecipe("static", {"b": 0.25, "a": 0.5})
    first = Recipe({("stems", "x", "int8"): static, ("engines", "a+b", "int8"): GraphRecipe()})
    second = Recipe(dict(reversed(list(first.graphs.items()))))
    assert toml_from_recipe(first) == toml_from_recipe(second)
    assert toml_from_recipe(first).splitlines()[1:] == [
        "format_version = 1",
        "",
        '["engines"."a+b"."int8"]',
        'method = "dynamic"',
        "",
        '["stems"."x"."int8"]',
        'method = "static"',
        'keep_float."a" = 0.5',
        'keep_float."b" = 0.25',
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("format_version = 1\n[", "not TOML"),
        ("", "expected format_version = 1"),
        ("format_version = 2", "expected format_version = 1"),
        ("format_version = 1\ncolour = 3", "unknown 'colour'"),
        ("format_version = 1\n[engines]\naudio = 3", "engines.audio must hold a table"),
        ("format_version = 1\n[engines.audio]\nint8 = 3", "engines.audio must hold a table"),
        ('format_version = 1\n[engines.audio.int8]\nmethod = "best"', "method = 'dynamic' or 'static'"),
        ("format_version = 1\n[engines.audio.int8]\nkeep_float = ['a']", "keep_float = {node = cost}"),
        ("format_version = 1\n[engines.audio.int8]\nkeep_float.a = true", "keep_float = {node = cost}"),
        ("format_version = 1\n[engines.audio.int8]\nspeed = 3", "expected dropped = 'reason'"),
        ("format_version = 1\n[engines.audio.int8]\ndropped = 3", "expected dropped = 'reason'"),
    ],
)
def test_what_is_no_recipe_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence):
        recipe_from_toml(text)


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml: cannot be read"):
        read_recipe(tmp_path / "nowhere.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ExportError, match="no UTF-8 text"):
        read_recipe(tmp_path / "bytes.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(ExportError, match="a recipe has at most"):
        read_recipe(tmp_path / "large.toml")


def test_a_recipe_of_another_checkpoint_is_refused() -> None:
    recipe = Recipe({("engines", "smell", "int8"): GraphRecipe()})
    with pytest.raises(ExportError, match=r"speaks of engines\.smell\.int8; .* another checkpoint"):
        recipe.check_names(["audio"], ["audio"], ["int8"])
    Recipe(dropped={("stems", "audio", "int8"): "slow"}).check_names(["text"], ["audio"], ["int8"])
