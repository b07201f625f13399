import pytest

from clara_search.config import from_mapping
from clara_search.errors import ConfigError
from clara_search.models.clara.config import AudioTowerConfig, ClaraConfig


def test_nested_tables_and_lists_become_dataclasses_and_tuples() -> None:
    config = from_mapping(ClaraConfig, {"dim": 8, "audio": {"conv_strides": [2, 2]}, "mel": {"f_max": 4000}}, "x")
    assert config.dim == 8
    assert config.audio.conv_strides == (2, 2)
    assert config.mel.f_max == 4000.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dimm": 8}, r"x: unknown key 'dimm', did you mean 'dim'\?"),
        ({"audio": {"latent": 8}}, r"x.audio: unknown key 'latent', did you mean 'latents'\?"),
        ({"dim": "8"}, r"x.dim: expected int, got '8'"),
        ({"dim": True}, r"x.dim: expected int, got True"),
        ({"audio": 3}, r"x.audio: expected a table"),
        ({"audio": {"positions": "rotary"}}, r"x.audio.positions: expected one of 'learned', 'sinusoidal'"),
        ({"audio": {"latents": 3}}, r"x.audio: pooling over features .* needs latents = latent_dim"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(ClaraConfig, values, "x")


def test_defaults_are_those_of_the_released_model() -> None:
    assert AudioTowerConfig().latent_layers == 10
