"""The weights that a run starts from: all of a model's, or an error that names the tensors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clara_search.errors import ConfigError
from clara_search.models.clara.checkpoint import save_model
from clara_search.models.clara.phone_head import PhoneHeadConfig
from clara_search.models.clara.towers import Clara
from tests.trainer.pretraining.test_run import RECIPE
from trainer.commands.common import load_settings
from trainer.config.recipe import Recipe
from trainer.config.sections import InitConfig
from trainer.pretraining.init import init_weights, load_tokenizer
from trainer.pretraining.tokenizer import train_tokenizer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path / "model", Clara(RECIPE.model), train_tokenizer(["tone"], 300, []), "", torch.float32)
    return tmp_path / "model"


def initialised(recipe: Recipe) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    model = Clara(recipe.model)
    init_weights(model, recipe)
    return model.state_dict()


def test_all_weights_of_a_model_are_taken(model: Path) -> None:
    torch.manual_seed(0)
    expected = Clara(RECIPE.model).state_dict()
    loaded = initialised(replace(RECIPE, init=InitConfig(str(model))))
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_weights_that_do_not_fit_are_refused_with_their_names(model: Path) -> None:
    wider = replace(RECIPE.model, dim=16)
    with pytest.raises(
        ConfigError, match=r"do not fit .*audio_projection\.weight has shape \(8, \d+\), expected \(16,"
    ):
        initialised(replace(RECIPE, model=wider, init=InitConfig(str(model))))
    with_phones = replace(RECIPE.model, phone_head=PhoneHeadConfig())
    with pytest.raises(ConfigError, match=r"phone_head\.bigram_projection\.weight is missing.*init\.new"):
        initialised(replace(RECIPE, model=with_phones, init=InitConfig(str(model))))


def test_modules_that_are_named_start_anew(model: Path) -> None:
    recipe = replace(RECIPE, model=replace(RECIPE.model, phone_head=PhoneHeadConfig()))
    loaded = initialised(replace(recipe, init=InitConfig(str(model), new=("phone_head", "audio.stem"))))
    torch.manual_seed(0)
    stored = Clara(RECIPE.model).state_dict()
    changed = {name for name, tensor in loaded.items() if name not in stored or not torch.equal(tensor, stored[name])}
    assert changed
    assert all(name.startswith(("phone_head.", "audio.stem.")) for name in changed)
    with pytest.raises(ConfigError, match=r"init\.new: neither the model nor .* has a module 'audoi'"):
        initialised(replace(recipe, init=InitConfig(str(model), new=("audoi",))))


def test_the_tokenizer_comes_with_the_model_unless_its_embeddings_are_new(model: Path) -> None:
    assert load_tokenizer(replace(RECIPE, init=InitConfig(str(model)))) is not None
    assert load_tokenizer(replace(RECIPE, init=InitConfig(str(model), new=("text",)))) is None
    assert load_tokenizer(RECIPE) is None


def test_init_on_the_command_line_takes_the_configuration_of_the_model(model: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('name = "further"\n[model.text]\ndropout = 0.3\n')
    settings = load_settings(tmp_path / "r.toml", init=str(model))
    assert settings.init == InitConfig(str(model))
    assert settings.model == replace(RECIPE.model, text=replace(RECIPE.model.text, dropout=0.3))
    assert settings == load_settings(tmp_path / "r.toml", overrides=(f"init.from={model}",))
