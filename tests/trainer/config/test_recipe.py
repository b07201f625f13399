from dataclasses import replace
from pathlib import Path

import pytest

from clara_search.errors import ConfigError, FormatError, SourceError
from clara_search.models.clara.phone_head import PhoneHeadConfig
from trainer.commands.common import load_settings
from trainer.config.presets import PRESETS
from trainer.config.recipe import RECIPES, load_recipe, to_toml
from trainer.pretraining.init import resolve_recipe


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
    with pytest.raises(ConfigError, match=message):
        load_recipe(Path("clara-small.toml"), (override,))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_recipe_that_is_written_out_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, ('data.sources=["a \\"b\\".tar"]',))
    (tmp_path / "again.toml").write_text(to_toml(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "again.toml") == recipe


def test_model_settings_change_those_of_the_preset() -> None:
    recipe = load_recipe(Path("tiny.toml"), ("model.audio.frame_layers=3",))
    tiny = PRESETS["clara-v2-tiny"]
    assert recipe.model == replace(tiny, audio=replace(tiny.audio, frame_layers=3), phone_head=PhoneHeadConfig())
    with pytest.raises(ConfigError, match=r"no preset 'x'; there are clara-100m"):
        load_recipe(Path("tiny.toml"), ("preset=x",))


def test_a_missing_recipe_names_the_bundled_ones(tmp_path: Path) -> None:
    for name in ("none.toml", "tiny.toml"):  # a bundled one has that name, and lies elsewhere
        with pytest.raises(SourceError, match=rf"{name}: no such file; there are .*clara-small\.toml"):
            load_recipe(tmp_path / name)


def test_broken_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("name = ")
    with pytest.raises(FormatError, match=r"x\.toml: broken TOML"):
        load_recipe(tmp_path / "x.toml")


@pytest.mark.parametrize(
    "override",
    """seed=-1 seed=4294967296 data.batch_size=1 data.max_audio_s=nan data.max_audio_s=inf data.max_audio_s=1e308
    data.max_audio_s=1e-9 data.weights.sound=nan data.weights.sound=inf data.weights.sound=1e12 data.weights.sound=-1
    data.workers=-1 optim.lr=nan optim.lr=-1 optim.lr=0 optim.betas=[1.0,1.0] optim.betas=[-1.0,0.9] optim.betas=[0.9]
    optim.eps=-1 optim.eps=0 optim.epochs=0 optim.epochs=-1 optim.epochs=-5 optim.weight_decay=-1 optim.weight_decay=nan
    optim.warmup_steps=-1 optim.grad_clip_norm=-1 optim.grad_clip_norm=nan optim.ema_decay=1
    optim.ema_decay=nan run.validate_epochs=0
    run.checkpoint_steps=-1 run.devices=-1 run.nodes=0 run.patience=-1 augment.speed=[0,0] augment.speed=[-1,1]
    augment.speed=[1,5000] augment.tempo=[0,0] augment.tempo=[-1,1] augment.pitch_semitones=nan
    augment.pitch_semitones=-3 augment.snr_db=[nan,nan] augment.clip_share=[-1,0.5] augment.clip_share=[0,2]
    augment.reverb_s=[0,1e9] augment.reverb_s=[-1,1] augment.gain_db=nan augment.gain_db=-1 augment.gain_db=1e9
    augment.time_mask_share=2 augment.time_mask_share=-1 augment.time_mask_share=nan augment.frequency_mask_bands=-1
    augment.time_masks=100000 augment.noise_probability=2 augment.mix_probability=nan augment.blend_probability=-1
    captions.template_probability=7 captions.language_probability=-3 auxiliary.phone_ctc=-1 auxiliary.phone_ctc=nan
    tokenizer.dropout=-1 tokenizer.dropout=2 tokenizer.dropout=nan
    loss.matryoshka_dims=[0] loss.gradcache_chunk=-1 model.text.layers=0 preset=["a"] name="" name="../evil" name="a/b"
    name="a\\u0000b" name=3""".split(),
)
def test_a_setting_out_of_bounds_is_named(override: str) -> None:
    key = override.partition("=")[0].split(".")
    with pytest.raises(ConfigError, match=rf"{'.*'.join(key[-2:])} ?|{key[-1]}") as error:
        load_recipe(Path("tiny.toml"), (override,))
    assert "\n" not in str(error.value)


def test_a_name_of_300_letters_a_nested_recipe_and_a_nameless_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name is a folder's name"):
        load_recipe(Path("tiny.toml"), (f"name={'x' * 300}",))
    path = tmp_path / "r.toml"
    path.write_text("x = " + "[" * 5000)
    with pytest.raises(FormatError, match="broken TOML"):
        load_recipe(path)
    path.write_text("")
    with pytest.raises(ConfigError, match=r"r\.toml: a recipe needs a name: add name ="):
        load_recipe(path)


def test_matryoshka_dimensions_are_at_most_those_of_the_model() -> None:
    with pytest.raises(ConfigError, match=r"loss\.matryoshka_dims holds 200, but the model has 128 dimensions"):
        resolve_recipe(load_recipe(Path("tiny.toml"), ("loss.matryoshka_dims=[64, 200]",)))


def test_a_recipe_names_no_protocol_that_only_the_user_may(tmp_path: Path) -> None:
    hostile = "reference://a.tar::http://host/leak.json"
    for table in (f'[data]\nsources = ["{hostile}"]', f'[run]\nzero_shot = ["{hostile}"]'):
        (tmp_path / "r.toml").write_text(f'name = "x"\n{table}\n')
        with pytest.raises(FormatError, match="opened only where it is typed"):
            load_settings(tmp_path / "r.toml")
    (tmp_path / "r.toml").write_text('name = "x"\n[data]\nsources = ["s3://b/{00..09}.tar", "local/*.tar"]\n')
    assert load_settings(tmp_path / "r.toml").data.sources == ("s3://b/{00..09}.tar", "local/*.tar")
    assert load_settings(tmp_path / "r.toml", (hostile,)).data.sources == (hostile,)
    assert load_settings(tmp_path / "r.toml", overrides=(f'data.sources=["{hostile}"]',)).data.sources == (hostile,)


@pytest.mark.parametrize("uri", ["https://mlflow.example/x", "databricks", "uc", "sqlite:///x.db"])
def test_a_tracking_server_is_contacted_only_where_it_is_typed(tmp_path: Path, uri: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f'name = "x"\n[run]\nloggers = ["mlflow"]\ntracking_uri = "{uri}"\n')
    with pytest.raises(ConfigError, match="contacted only where it is typed"):
        load_settings(path)
    assert load_settings(path, overrides=(f"run.tracking_uri={uri}",)).run.tracking_uri == uri
    for folder in ("", "file:///runs/mlruns", "runs/mlruns"):
        path.write_text(f'name = "x"\n[run]\nloggers = ["mlflow"]\ntracking_uri = "{folder}"\n')
        assert load_settings(path).run.tracking_uri == folder


def test_weights_and_biases_are_contacted_only_where_they_are_typed(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\n[run]\nloggers = ["mlflow", "wandb"]\n')
    with pytest.raises(ConfigError, match=r"logs to Weights & Biases, .* only where it is typed"):
        load_settings(path)
    assert load_settings(path, overrides=('run.loggers=["wandb"]',)).run.loggers == ("wandb",)
