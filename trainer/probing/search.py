"""Hyperparameter search for a head on the validation split, by Optuna."""

from __future__ import annotations

from dataclasses import replace

from clara_search.classification.head import Head, HeadConfig
from clara_search.errors import ConfigError, MissingDependency
from trainer.probing.experiment import Fitter, LabelledSet, Predictor
from trainer.probing.folds import Fold
from trainer.probing.sgd import FitConfig, History, OnEpoch, is_improvement

HIDDEN = {"512,128": (512, 128), "256,64": (256, 64), "256": (256,), "128": (128,)}


def search_settings(fitter: Fitter, trials: int) -> Fitter:
    """Return a fitter that tries several settings and keeps the head that is best on the fold's validation split.

    Each fold is searched anew, so that no clip that is tested in it has a say.

    Args:
        fitter: fits a head with given settings.
        trials: number of settings to try for each fold.

    Raises:
        MissingDependency: Optuna is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingDependency("a search for settings needs optuna: pip install -e '.[probe]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def fit(
        config: FitConfig, shape: HeadConfig, labelled: LabelledSet, fold: Fold, on_epoch: OnEpoch
    ) -> tuple[Head, History, Predictor]:
        if config.head not in ("linear", "mlp"):
            raise ConfigError(f"a {config.head} head chooses its own settings: trials are for linear and mlp")
        best_row: dict[str, float] | None = None
        best_fit: tuple[Head, History, Predictor] | None = None

        def objective(trial: optuna.Trial) -> float:
            nonlocal best_row, best_fit
            changed = suggest_settings(trial, config)
            trial_shape = replace(shape, hidden=changed.hidden, dropout=changed.dropout)
            head, history, predict = fitter(changed, trial_shape, labelled, fold, on_epoch)
            row = best_validation(history, config.monitor)
            if best_fit is None or is_improvement(row, best_row, config.monitor):
                best_row = row
                best_fit = head, [{**epoch, "trial": float(trial.number)} for epoch in history], predict
            return row["loss"] if config.monitor == "loss" else -row[config.monitor]

        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=config.seed))
        study.optimize(objective, n_trials=trials)
        assert best_fit is not None
        return best_fit

    return fit


def suggest_settings(trial: object, config: FitConfig) -> FitConfig:
    """Return the settings of an Optuna trial: `config` with another learning rate, batch size and so on."""
    suggest_float = trial.suggest_float  # type: ignore[attr-defined]
    suggest_categorical = trial.suggest_categorical  # type: ignore[attr-defined]
    changed = replace(
        config,
        lr=suggest_float("lr", 1e-4, 1e-2, log=True),
        encoder_lr=config.encoder_lr * suggest_float("encoder_lr_factor", 0.1, 10.0, log=True),
        weight_decay=suggest_float("weight_decay", 1e-4, 1.0, log=True),
        batch_size=suggest_categorical("batch_size", [32, 128, 512]),
    )
    if config.head == "linear":
        return changed
    hidden = HIDDEN[suggest_categorical("hidden", list(HIDDEN))]
    return replace(changed, hidden=hidden, dropout=suggest_float("dropout", 0.0, 0.7))


def best_validation(history: History, monitor: str) -> dict[str, float]:
    """Return the validation measures of the best epoch, whose weights the head has."""
    best: dict[str, float] | None = None
    for row in history:
        measures = {name.removeprefix("valid_"): value for name, value in row.items() if name.startswith("valid_")}
        if is_improvement(measures, best, monitor):
            best = measures
    assert best is not None
    return best
