from pathlib import Path

import pytest

from clara_search.errors import FormatError
from trainer.recipe import RECIPES, load_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_bundled_recipes_load_by_path_and_by_name(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe == load_recipe(Path("recipes") / path.name)
    assert path.stem.startswith(recipe.name)


def test_a_setting_can_be_changed() -> None:
    recipe = load_recipe(Path("clara-small.toml"), ("optimiser.epochs=2", "model.audio.pooling=latents", "name=x"))
    assert (recipe.optimiser.epochs, recipe.name) == (2, "x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.epoch=2", r"optimiser: unknown key 'epoch', did you mean 'epochs'"),
        ("optimiser.epochs=two", r"optimiser\.epochs: expected int, got 'two'"),
        ("optimiser", "expected key=value"),
    ],
)
def test_a_wrong_setting_is_named(override: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        load_recipe(Path("clara-small.toml"), (override,))


def test_a_missing_recipe_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"none\.toml: no such recipe; there are .*clara-small\.toml"):
        load_recipe(tmp_path / "none.toml")


def test_broken_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("name = ")
    with pytest.raises(FormatError, match=r"x\.toml: broken TOML"):
        load_recipe(tmp_path / "x.toml")
