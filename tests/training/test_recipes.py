"""Recipes are whole, and `--set` changes one number of them or says what can be changed."""

from __future__ import annotations

import pytest

from core_model.errors import UsageError
from training.recipes import RECIPES, make_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_describes_a_model_that_fits_together(name: str) -> None:
    recipe = make_recipe(name)
    assert recipe.name == name
    assert recipe.model.slide_encoder.in_chans == recipe.tile_encoder.encoder.embed_dim


def test_overrides_are_typed_and_reach_nested_values() -> None:
    recipe = make_recipe(
        "tiny",
        [
            "stage1.schedule.steps=7",
            "tiles=/some/folder",
            "slide_encoder.dilated_ratio=[1,2]",
            "language.model.depth=3",
            "tile_encoder.limit=null",
            "stage3.dropout=0.5",
        ],
    )
    assert recipe.stage1.schedule.steps == 7
    assert recipe.tiles == "/some/folder"
    assert recipe.model.slide_encoder.dilated_ratio == (1, 2)
    assert recipe.model.language_model.depth == 3
    assert recipe.stage3.dropout == 0.5
    assert recipe.stage2 == make_recipe("tiny").stage2


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("stage1.steps=3", "stage1.schedule.steps"),
        ("stage1=3", "stage1.schedule.steps"),
        ("nonsense", "key=value"),
        ("stage1.schedule.steps=many", "stage1.schedule.steps"),
        ("stage1.schedule.steps=-1", "stage1.schedule.steps"),
        ("slide_encoder.heads=5", "slide_encoder"),
        ("pooling=mean", "gives one token, not n_tokens"),
        ("slide_encoder.in_chans=23", "must equal tile_encoder.embed_dim"),
    ],
)
def test_a_wrong_override_is_told_with_what_is_valid(override: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as refused:
        make_recipe("tiny", [override])
    assert "{" not in str(refused.value)  # no record is poured out


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="mini, tiny, wsi-llava-7b, wsi-llava-qwen7b"):
        make_recipe("maxi")
