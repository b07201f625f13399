"""A run folder is one run's: of one process at a time, of one recipe, and of no rehearsal."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from filelock import FileLock

from clara_search.errors import ConfigError, OutputError
from tests.trainer.conftest import write_clips
from tests.trainer.runtime.test_checkpoints import with_
from trainer.__main__ import main
from trainer.config.recipe import Recipe, to_toml
from trainer.pretraining.run import pretrain
from trainer.pretraining.setup import set_up
from trainer.runtime.folder import check_same


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"optim_lr": 0.5}, "optim.lr"),
        ({"data_sources": ("other",)}, "data.sources"),
        ({"data_weights": {"sound": 2.0}}, "data.weights.sound"),
        ({"model_dim": 16}, "model.dim"),
        ({"loss_kind": "sigmoid"}, "loss.kind"),
        ({"optim_ema_decay": 0.9}, "optim.ema_decay"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(small: Recipe, change: dict[str, Any], key: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^{key} is .*, and was .* when the run started .*: .* choose another folder"
    ):
        check_same(small, with_(small, **change), Path("recipe.toml"))


@pytest.mark.parametrize(
    "change",
    [
        {"optim_epochs": 9},
        {"run_loggers": ("mlflow",), "run_patience": 4, "run_devices": 2, "run_precision": "bf16-mixed"},
        {"data_workers": 3, "loss_gradcache_chunk": 2},
    ],
)
def test_a_run_may_be_resumed_for_longer_and_elsewhere(small: Recipe, change: dict[str, Any]) -> None:
    check_same(small, with_(small, **change), Path("recipe.toml"))
    if "optim_epochs" in change:
        with pytest.raises(ConfigError, match=r"optim\.epochs is 1, and was 9"):
            check_same(with_(small, **change), small, Path("recipe.toml"))


def test_the_folder_of_a_run_keeps_its_recipe(small: Recipe, tmp_path: Path) -> None:
    pretrain(small, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"optim\.lr is 0\.5, and was 0\.001 .*recipe\.toml"):
        pretrain(with_(small, optim_lr=0.5), tmp_path / "run")
    assert (tmp_path / "run" / "recipe.toml").read_text() == to_toml(small)


def test_a_run_without_a_checkpoint_starts_over_with_other_texts(small: Recipe, tmp_path: Path) -> None:
    set_up(small, tmp_path / "run")
    first = (tmp_path / "run" / "tokenizer.json").read_bytes()
    other = write_clips(tmp_path / "other", 16)
    for path in other.glob("*.json"):
        path.write_text(path.read_text().replace("tone", "élan vital"))
    set_up(with_(small, data_sources=(str(other),)), tmp_path / "run")
    assert (tmp_path / "run" / "tokenizer.json").read_bytes() != first


def test_a_rehearsal_leaves_nothing_in_the_folder_of_the_run(small: Recipe, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(to_toml(small))
    result = CliRunner().invoke(
        main, ["pretrain", str(tmp_path / "r.toml"), "--out", str(tmp_path / "run"), "--dry-run"]
    )
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "run").exists()


def test_two_runs_in_one_folder_are_refused(small: Recipe, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / "run.lock"),
        pytest.raises(OutputError, match=r"run: another process trains there"),
    ):
        pretrain(replace(small), tmp_path / "run")


def test_a_planned_stop_is_no_error(small: Recipe, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(to_toml(with_(small, optim_epochs=3)))
    arguments = ["pretrain", str(tmp_path / "r.toml"), "--out", str(tmp_path / "run"), "--max-minutes"]
    result = CliRunner().invoke(main, [*arguments, "0"])
    assert result.exit_code == 0
    assert result.stdout.endswith("stopped at step 1; run the same command again to resume\n")
    assert CliRunner().invoke(main, [*arguments, "nan"]).exit_code == 2


@pytest.mark.parametrize("folder", ["/proc/x/run", "{}/file/run", "{}/a\0b/run"])
def test_an_unwritable_folder_is_one_line(small: Recipe, tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be"):
        pretrain(small, Path(folder.format(tmp_path)))


def test_weights_of_absent_sources_are_warned_about(
    small: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    set_up(with_(small, data_weights={"sound": 2.0, "nosuch": 3.0}), tmp_path / "run", dry_run=True)
    assert "no training recording has the source or kind nosuch" in caplog.text
