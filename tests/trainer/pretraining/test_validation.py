"""The validation score counts all captions of a recording, and all recordings of a caption."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from clara_search.datasets.example import Example
from trainer.evaluation.retrieval import Captioned
from trainer.pretraining.module import Pretraining


def test_each_caption_finds_the_recordings_that_have_it() -> None:
    examples = [
        Example("a", Path("a.wav"), "rain", alternatives=("storm",)),
        Example("b", Path("b.wav"), "storm"),
        Example("c", Path("c.wav"), "wind"),
    ]
    captions = Captioned.of(examples)
    assert captions.texts == ["rain", "storm", "wind"]
    logged: dict[str, Any] = {}
    module = SimpleNamespace(
        validated=SimpleNamespace(captions=captions, position_of={7: 0, 8: 1, 9: 2}),
        _texts=np.eye(3, dtype=np.float32),
        _validated=[  # of a recording that comes twice the first counts; b is nearest to "storm", a to "rain"
            (torch.tensor([[0.8, 0.6, 0.0], [0.0, 1.0, 0.0]]), torch.tensor([7, 8])),
            (torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), torch.tensor([9, 7])),
        ],
        loss=SimpleNamespace(logit_scales=lambda: (torch.zeros(()), torch.zeros(()))),
        log=lambda name, value, **_: logged.update({name: value}),
    )
    Pretraining.on_validation_epoch_end(module)  # type: ignore[arg-type]
    assert logged["text_to_audio_recall_at_1"] == logged["audio_to_text_recall_at_1"] == 1
    assert logged["text_to_audio_map_at_10"] == logged["audio_to_text_map_at_10"] == 1
    assert module._validated == []
