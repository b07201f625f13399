from dataclasses import replace
from pathlib import Path

import pytest

from clara_search.errors import FormatError
from clara_search.models.phones import SpokenConfig
from trainer.presets import PRESETS
from trainer.recipe import RECIPES, as_toml, load_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_bundled_recipes_load_by_path_and_by_name(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe == load_recipe(Path("recipes") / path.name)
    assert path.stem.startswith(recipe.name)


def test_a_setting_can_be_changed() -> None:
    recipe = load_recipe(Path("clara-small.toml"), ("optim.epochs=2", "model.audio.pooling=latents", "name=x"))
    assert (recipe.optim.epochs, recipe.name) == (2, "x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.epoch=2", r"optim: unknown key 'epoch', did you mean 'epochs'"),
        ("optim.epochs=two", r"optim\.epochs: expected int, got 'two'"),
        ("optim", "expected key=value"),
    ],
)
def test_a_wrong_setting_is_named(override: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        load_recipe(Path("clara-small.toml"), (override,))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_recipe_that_is_written_out_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, ('data.sources=["a \\"b\\".tar"]',))
    (tmp_path / "again.toml").write_text(as_toml(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "again.toml") == replace(recipe, preset="")


def test_a_preset_is_where_a_model_begins() -> None:
    recipe = load_recipe(Path("tiny.toml"), ("model.audio.frame_layers=3",))
    tiny = PRESETS["clara-v2-tiny"]
    assert recipe.model == replace(tiny, audio=replace(tiny.audio, frame_layers=3), spoken=SpokenConfig())
    with pytest.raises(FormatError, match=r"no preset 'x'; there are clara-100m"):
        load_recipe(Path("tiny.toml"), ("preset=x",))


def test_a_missing_recipe_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"none\.toml: no such file; there are .*clara-small\.toml"):
        load_recipe(tmp_path / "none.toml")


def test_broken_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("name = ")
    with pytest.raises(FormatError, match=r"x\.toml: broken TOML"):
        load_recipe(tmp_path / "x.toml")
