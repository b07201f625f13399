from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clara_search.errors import ConfigError
from tests.helpers import write_tone
from tests.trainer.pretraining.test_run import RATE
from trainer.config.recipe import Recipe
from trainer.config.sections import RunConfig
from trainer.pretraining.callbacks import zero_shot_callbacks
from trainer.pretraining.run import check_machine
from trainer.pretraining.tokenizer import train_tokenizer

REFUSED: list[dict[str, Any]] = [
    {"accelerator": "tpu"},
    {"accelerator": "quantum"},
    {"strategy": "foo"},
    {"strategy": ""},
    {"strategy": "fsdp"},
    {"precision": "8-bit"},
    {"precision": "transformer-engine"},
]


@pytest.mark.parametrize("settings", REFUSED, ids=str)
def test_missing_hardware_is_one_line(small: Recipe, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(settings))}=") as error:
        check_machine(replace(small, run=RunConfig(**{"accelerator": "cpu", **settings})))
    assert "\n" not in str(error.value)


def test_a_logger_that_is_not_installed_is_one_line(small: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    import pytorch_lightning.loggers

    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'wandb'\n\nmore about it")

    monkeypatch.setattr(pytorch_lightning.loggers, "WandbLogger", missing)
    with pytest.raises(ConfigError, match=r"^run\.loggers: No module named 'wandb'$"):
        check_machine(replace(small, run=RunConfig("cpu", loggers=("wandb",))))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((("",) * 2,), "has none"),
        ((("dog",) * 2,), "has only 'dog'"),
        ((("a", "b"),) * 2, "two sources are called 'm'"),
    ],
)
def test_a_zero_shot_set_of_fewer_than_two_labels_is_refused_at_the_start(
    small: Recipe, tmp_path: Path, labels: tuple[tuple[str, str], ...], message: str
) -> None:
    for number, pair in enumerate(labels):
        folder = tmp_path / str(number)
        for name in ("a.wav", "b.wav"):
            write_tone(folder / name, 300, 0.2, RATE)
        (folder / "m.csv").write_text(f"path,text,label\na.wav,x,{pair[0]}\nb.wav,y,{pair[1]}\n")
    places = tuple(str(tmp_path / str(number) / "m.csv") for number in range(len(labels)))
    settings = replace(small, run=replace(small.run, zero_shot=places))
    with pytest.raises(ConfigError, match=message):
        zero_shot_callbacks(settings, train_tokenizer(["x"], 300, []), tmp_path / "cache")
