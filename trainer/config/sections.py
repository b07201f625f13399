"""The sections of a recipe: one frozen dataclass each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from clara_search.config import Between, check_bounds


@dataclass(frozen=True)
class DataConfig:
    """What is trained on.

    Attributes:
        sources: places of recordings with texts: shards, manifests, folders, globs, brace patterns, URLs.
        batch_size: pairs in a step, over all devices.
        max_audio_s: longer speech is left out (its text would not fit a part of it), longer sounds are cropped.
        held_out_speakers: speakers that are never trained on.
        weights: how often an epoch has a recording, by its source or its kind ("sound" = 2.5: two or three times).
        decode: whether everything is decoded once, to 16 bits on disk, or each recording afresh whenever it is wanted.
        workers: processes that prepare batches beside each one that trains.
    """

    sources: tuple[str, ...] = ()
    batch_size: Annotated[int, Between(2, 1_000_000)] = 128
    max_audio_s: Annotated[float, Between(0.01, 3600)] = 10.0
    held_out_speakers: tuple[str, ...] = ()
    weights: Annotated[dict[str, float], Between(0, 1000)] = field(default_factory=dict)
    decode: bool = True
    workers: Annotated[int, Between(0, 1024)] = 0

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class TokenizerConfig:
    """A byte-level BPE of as many tokens as the model has embeddings for.

    Attributes:
        path: a `tokenizer.json` to take; "" learns one from the texts that are trained on.
        dropout: how often, in training, a merge of two tokens is undone.
    """

    path: str = ""
    dropout: Annotated[float, Between(0, 1)] = 0.1

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class PhonesConfig:
    """Auxiliary losses of a model with `model.phone_head`, over the phones of what is said.

    Attributes:
        weight: of the loss that asks the frames of the audio tower for them (CTC); 0 leaves it out.
        text_weight: of another, that asks the text tower for the vector that the phones of a transcript make.
    """

    weight: Annotated[float, Between(0, 1000)] = 0.0
    text_weight: Annotated[float, Between(0, 1000)] = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class TowersConfig:
    """Where the towers come from, and which of them stay as they are.

    Attributes:
        begin: name or folder of a model whose weights are taken wherever name and shape agree, and its tokenizer.
        audio: name or folder of a model whose audio tower (configuration, log-mel and weights) is taken; "" begins
            anew with what the recipe says.
        text: the same for the text tower and its tokenizer.
        locked: "audio", "text": towers that are not trained, as in LiT (arXiv 2111.07991); their projections are.
            "frames": of the audio tower what lies below its pooling, and the phones.
    """

    begin: str = ""
    audio: str = ""
    text: str = ""
    locked: tuple[Literal["audio", "text", "frames"], ...] = ()


@dataclass(frozen=True)
class TeacherConfig:
    """Auxiliary losses: the towers are asked for what models that know more make of a recording or a text.

    Attributes:
        audio: folder of a Whisper model in CTranslate2's form, whose frames the audio tower gives too; "" for none.
        weight: of that loss beside the contrastive one.
        text: folder of a sentence encoder of `transformers`, whose likeness of texts the text tower follows; "" for
            none. Where the model has phones, transcripts have no part in it: they go by what they sound like.
        text_weight: of that loss.
    """

    audio: str = ""
    weight: Annotated[float, Between(0, 1000)] = 1.0
    text: str = ""
    text_weight: Annotated[float, Between(0, 1000)] = 1.0

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with a linear warm-up and a cosine to zero; vectors and scalars, temperatures among them, do not decay.

    Attributes:
        lr: highest learning rate.
        epochs: the run's length.
        warmup_steps: steps until the highest learning rate.
        weight_decay: of matrices.
        betas: of AdamW.
        eps: of AdamW.
        clip: bound of the gradient's norm; 0 for none.
        ema: decay of an average of the weights, a step at a time, which is what is validated and kept; 0 for none.
    """

    lr: Annotated[float, Between(0, 10, but=0)] = 1e-3
    epochs: Annotated[int, Between(1, 1_000_000)] = 20
    warmup_steps: Annotated[int, Between(0, 1_000_000_000)] = 200
    weight_decay: Annotated[float, Between(0, 100)] = 0.05
    betas: Annotated[tuple[float, ...], Between(0, 1, but=1)] = (0.9, 0.98)
    eps: Annotated[float, Between(0, 1, but=0)] = 1e-8
    clip: Annotated[float, Between(0, 1e9)] = 1.0
    ema: Annotated[float, Between(0, 1, but=1)] = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        if len(self.betas) != 2:
            raise ValueError("betas takes two values")


@dataclass(frozen=True)
class RunConfig:
    """Where and how it runs, and what is kept of it.

    Attributes:
        accelerator: "cpu", "gpu" or "auto".
        devices: of each machine; 0 takes all.
        nodes: machines; torchrun and SLURM say which of them this is.
        strategy: of Lightning: "auto", "ddp", "fsdp", ...
        precision: of Lightning: "32-true", "bf16-mixed", "16-mixed", ...
        compile: whether the model is compiled first.
        checkpoint_steps: steps from checkpoint to checkpoint, beside the one of each epoch; 0 for none.
        validate_epochs: epochs from validation to validation.
        patience: validations without a better one after which training stops; 0 never stops.
        zero_shot: manifests or shards whose `label` is told from the others of that place, at each validation.
        loggers: beside the CSV: "tensorboard", "mlflow", "wandb".
        tracking_uri: of the MLflow server or file store; "" is the folder of the run.
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
