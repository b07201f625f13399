"""Where a run is tracked, beside its own folder: TensorBoard, MLflow, Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning.loggers import Logger


def loggers(experiment: str, kinds: Sequence[str], tracking_uri: str, run: Path) -> list[Logger]:
    """Return a logger for each of `kinds`, of the run in the folder `run`; "" tracks with MLflow in that folder."""
    found: list[Logger] = []
    if "tensorboard" in kinds:
        from pytorch_lightning.loggers import TensorBoardLogger

        found.append(TensorBoardLogger(run, name="tensorboard"))
    if "mlflow" in kinds:
        from pytorch_lightning.loggers import MLFlowLogger

        uri = tracking_uri or f"file:{(run / 'mlruns').absolute()}"
        if uri.startswith("file:"):  # MLflow would rather have a database, which asks for more packages
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        found.append(MLFlowLogger(experiment, run_name=run.name, tracking_uri=uri))
    if "wandb" in kinds:
        from pytorch_lightning.loggers import WandbLogger

        found.append(WandbLogger(name=run.name, project=experiment, save_dir=run))
    return found
