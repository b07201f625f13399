"""Experiment tracking beside the run's own folder: TensorBoard, MLflow, Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning.loggers import Logger


def new_loggers(experiment: str, kinds: Sequence[str], tracking_uri: str, run: Path) -> list[Logger]:
    """Return a logger for each of `kinds`.

    Args:
        experiment: name of the experiment or project.
        kinds: "tensorboard", "mlflow", "wandb".
        tracking_uri: of MLflow; "" for the folder of the run.
        run: folder of the run.
    """
    loggers: list[Logger] = []
    if "tensorboard" in kinds:
        from pytorch_lightning.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(run, name="tensorboard"))
    if "mlflow" in kinds:
        from pytorch_lightning.loggers import MLFlowLogger

        uri = tracking_uri or f"file:{(run / 'mlruns').absolute()}"
        if uri.startswith("file:"):  # MLflow prefers a database, which needs more packages
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        loggers.append(MLFlowLogger(experiment, run_name=run.name, tracking_uri=uri))
    if "wandb" in kinds:
        from pytorch_lightning.loggers import WandbLogger

        loggers.append(WandbLogger(name=run.name, project=experiment, save_dir=run))
    return loggers
