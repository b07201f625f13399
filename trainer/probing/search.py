"""Settings of a head, searched for on the validation side within a budget of trials (Optuna)."""

from __future__ import annotations

from dataclasses import replace

from clara_search.classification.head import Head, HeadConfig
from clara_search.errors import ConfigError, MissingDependency
from trainer.probing.experiment import Fitter, LabelledSet, Predictor
from trainer.probing.folds import Fold
from trainer.probing.sgd import FitConfig, History, OnEpoch, is_improvement

HIDDEN = {"512,128": (512, 128), "256,64": (256, 64), "256": (256,), "128": (128,)}


def search_settings(fitter: Fitter, trials: int) -> Fitter:
    """Return what fits a fold `trials` times with other settings, and keeps what does best on its validation side.

    Each fold is searched anew: what another one tests has no say. The test side is never looked at.
    Raises ClaraError where Optuna is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingDependency("a search for settings needs optuna: pip install -e '.[probe]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def fit(
        config: FitConfig, shape: HeadConfig, labelled: LabelledSet, fold: Fold, report: OnEpoch
    ) -> tuple[Head, History, Predictor]:
        if config.head not in ("linear", "mlp"):
            raise ConfigError(f"a {config.head} head chooses its own settings: trials are for linear and mlp")
        best: dict[str, float] | None = None
        kept: tuple[Head, History, Predictor] | None = None

        def objective(trial: optuna.Trial) -> float:
            nonlocal best, kept
            changed = suggested(trial, config)
            found = fitter(
                changed, replace(shape, hidden=changed.hidden, dropout=changed.dropout), labelled, fold, report
            )
            row = best_of(found[1], config.monitor)
            if kept is None or is_improvement(row, best, config.monitor):
                best, kept = row, (found[0], [{**one, "trial": float(trial.number)} for one in found[1]], found[2])
            return row["loss"] if config.monitor == "loss" else -row[config.monitor]

        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=config.seed))
        study.optimize(objective, n_trials=trials)
        assert kept is not None
        return kept

    return fit


def suggested(trial: object, config: FitConfig) -> FitConfig:
    """Return the settings of a trial."""
    draw = trial.suggest_float  # type: ignore[attr-defined]
    choose = trial.suggest_categorical  # type: ignore[attr-defined]
    changed = replace(
        config,
        lr=draw("lr", 1e-4, 1e-2, log=True),
        encoder_lr=config.encoder_lr * draw("encoder_lr_factor", 0.1, 10.0, log=True),
        weight_decay=draw("weight_decay", 1e-4, 1.0, log=True),
        batch_size=choose("batch_size", [32, 128, 512]),
    )
    if config.head == "linear":
        return changed
    return replace(changed, hidden=HIDDEN[choose("hidden", list(HIDDEN))], dropout=draw("dropout", 0.0, 0.7))


def best_of(history: History, monitor: str) -> dict[str, float]:
    """Return the validation measures of the epoch whose weights were kept."""
    best: dict[str, float] | None = None
    for row in history:
        measures = {name.removeprefix("valid_"): value for name, value in row.items() if name.startswith("valid_")}
        if is_improvement(measures, best, monitor):
            best = measures
    assert best is not None
    return best
