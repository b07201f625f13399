"""The sections of a recipe: a frozen dataclass each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from clara_search.config import Between, check_bounds
from clara_search.datasets.manifests import ManifestColumns


@dataclass(frozen=True)
class DataConfig:
    """Training data.

    Attributes:
        sources: recordings with texts: shards, manifests, folders, globs, brace patterns, URLs.
        batch_size: pairs in a step, over all devices.
        max_audio_s: longer speech is left out (its text would not fit a part of it), longer sounds are cropped.
        held_out_speakers: speakers that are never trained on.
        weights: how often an epoch samples a recording, by its source or its kind ("sound" = 2.5: two or three times).
        cache_decoded: whether all recordings are decoded once, to 16 bits on disk; otherwise at each use.
        workers: data loading processes beside each training process.
        path_column: the column of manifests that names or holds the recordings; "": recognise it.
        text_column: the column of manifests that holds the texts; "": recognise it.
        columns: columns of manifests to rename, their old names by their new ones.
        encoding: encoding of CSV, TSV and JSON manifests; "": UTF-8 or UTF-16.
    """

    sources: tuple[str, ...] = ()
    batch_size: Annotated[int, Between(2, 1_000_000)] = 128
    max_audio_s: Annotated[float, Between(0.01, 3600)] = 10.0
    held_out_speakers: tuple[str, ...] = ()
    weights: Annotated[dict[str, float], Between(0, 1000)] = field(default_factory=dict)
    cache_decoded: bool = True
    workers: Annotated[int, Between(0, 1024)] = 0
    path_column: str = ""
    text_column: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    encoding: str = ""

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def manifest_columns(self) -> ManifestColumns:
        """What the columns of manifests are."""
        return ManifestColumns(self.path_column or None, self.text_column or None, self.columns, self.encoding or None)


@dataclass(frozen=True)
class TokenizerConfig:
    """A byte-level BPE with at most as many tokens as the model has embeddings.

    Attributes:
        path: a `tokenizer.json`; "" takes that of `init.from`, or trains one on the training texts.
        dropout: probability with which a merge of two tokens is undone in training.
    """

    path: str = ""
    dropout: Annotated[float, Between(0, 1)] = 0.1

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class InitConfig:
    """The model that training starts from.

    Attributes:
        from_: `from` in a recipe: name or folder of a model. Its configuration (unless the recipe has a `preset`), its
            weights and its tokenizer are taken; every tensor must fit. "" starts from random weights.
        new: modules that start from random weights all the same, such as "audio" or "phone_head.token_classifier".
    """

    from_: str = ""
    new: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.new and not self.from_:
            raise ValueError("new names modules that are not taken from a model: it needs init.from")


@dataclass(frozen=True)
class DistillConfig:
    """Teacher models of the losses `auxiliary.frame_distillation` and `auxiliary.similarity_distillation`.

    Attributes:
        audio: folder of a Whisper model in CTranslate2 format, whose encoder's frames the audio tower learns.
        text: folder of a sentence encoder of `transformers`, whose similarities between texts the text tower learns.
            Where the model has a phone head, transcripts are left out: they are to be similar by sound.
    """

    audio: str = ""
    text: str = ""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with a linear warm-up and cosine decay to zero; vectors and scalars have no weight decay.

    Attributes:
        lr: peak learning rate.
        epochs: length of the run.
        warmup_steps: steps until the peak.
        weight_decay: of matrices.
        betas: of AdamW.
        eps: of AdamW.
        grad_clip_norm: upper bound of the gradient's norm; 0 for none.
        ema_decay: decay per step of an exponential moving average of the weights, which is validated and exported in
            their place; 0 for none.
        freeze: modules that are not trained. "audio", "text": a tower without its projection, as in LiT (arXiv
            2111.07991); "frames": the audio tower below its pooling, and the phone head.
    """

    lr: Annotated[float, Between(0, 10, but=0)] = 1e-3
    epochs: Annotated[int, Between(1, 1_000_000)] = 20
    warmup_steps: Annotated[int, Between(0, 1_000_000_000)] = 200
    weight_decay: Annotated[float, Between(0, 100)] = 0.05
    betas: Annotated[tuple[float, ...], Between(0, 1, but=1)] = (0.9, 0.98)
    eps: Annotated[float, Between(0, 1, but=0)] = 1e-8
    grad_clip_norm: Annotated[float, Between(0, 1e9)] = 1.0
    ema_decay: Annotated[float, Between(0, 1, but=1)] = 0.0
    freeze: tuple[Literal["audio", "text", "frames"], ...] = ()

    def __post_init__(self) -> None:
        check_bounds(self)
        if len(self.betas) != 2:
            raise ValueError("betas takes two values")


@dataclass(frozen=True)
class RunConfig:
    """Hardware, checkpoints, validation and tracking.

    Attributes:
        accelerator: "cpu", "gpu" or "auto".
        devices: of each machine; 0 takes all.
        nodes: machines; torchrun and SLURM say which of them this is.
        strategy: of Lightning: "auto", "ddp", "fsdp", ...
        precision: of Lightning: "32-true", "bf16-mixed", "16-mixed", ...
        compile: whether the model is compiled first.
        checkpoint_steps: steps between checkpoints, beside the one of each epoch; 0 for none.
        validate_epochs: epochs between validations.
        patience: validations without improvement after which training stops; 0 never stops.
        zero_shot: manifests or shards whose `label` is classified zero-shot at each validation.
        loggers: beside the CSV: "tensorboard", "mlflow", "wandb".
        tracking_uri: of the MLflow server or file store; "" is the run's folder.
    """

    accelerator: str = "auto"
    devices: Annotated[int, Between(0, 1024)] = 0
    nodes: Annotated[int, Between(1, 65536)] = 1
    strategy: str = "auto"
    precision: str = "32-true"
    compile: bool = False
    checkpoint_steps: Annotated[int, Between(0, 1_000_000_000)] = 0
    validate_epochs: Annotated[int, Between(1, 1_000_000)] = 1
    patience: Annotated[int, Between(0, 1_000_000)] = 0
    zero_shot: tuple[str, ...] = ()
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    tracking_uri: str = ""

    def __post_init__(self) -> None:
        check_bounds(self)
