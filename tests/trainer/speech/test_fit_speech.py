"""The speech half of a tiny model, fitted to tones and to synthetic words."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clara_search.audio.mel import MelConfig
from clara_search.models.clara.checkpoint import load_model, save_model
from clara_search.models.clara.phone_head import PhoneHeadConfig
from clara_search.models.clara.text_phones import PRONUNCIATION_FILE, read_pronouncer
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import load_encoder
from tests.clara_search.models.clara.test_towers import MASKED
from tests.helpers import write_tone
from trainer.data.corpus import Corpus, load_corpus
from trainer.pretraining.tokenizer import train_tokenizer
from trainer.speech.batches import PhoneBatch, PhoneBatches, RecognitionConfig
from trainer.speech.build import SpeechFitting, fit_speech, widen
from trainer.speech.random_speech import RandomSpeech
from trainer.speech.recognition import fit_phones, pooled_targets

MEL = MelConfig(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=20)
CONFIG = replace(MASKED, mel=MEL, phone_head=PhoneHeadConfig(slots_per_token=2))
RECOGNITION = RecognitionConfig(steps=6, batch_s=2.0, warmup=2, synthetic_every=3, checkpoint_steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and 24 tones, two thirds of them with transcripts."""
    folder = tmp_path_factory.mktemp("speech")
    with (folder / "tones.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "text", "kind", "split", "language", "text_language", "source"])
        for number in range(24):
            write_tone(folder / f"{number}.wav", 200 + 30 * number, duration_s=0.5 + 0.02 * number, sample_rate=16000)
            kind = "speech" if number % 3 else "sound"
            rows.writerow([f"{number}.wav", f"tono {number}", kind, "train", "es", "es", "ab"[number % 2]])
    torch.manual_seed(0)
    save_model(folder / "model", Clara(CONFIG), train_tokenizer(["tono"] * 9, 300, ["es"]), "", torch.float32)
    return folder


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return load_corpus([str(folder / "tones.csv")], 16000, folder / "cache")


class Interrupted(Exception):
    """What ends a run early."""


class Interrupting(PhoneBatches):
    """Batches that end with an exception after four steps."""

    def __iter__(self) -> Iterator[PhoneBatch]:
        for number, batch in enumerate(super().__iter__()):
            if number == 4:
                raise Interrupted
            yield batch


def batches(corpus: Corpus, kind: type[PhoneBatches] = PhoneBatches) -> PhoneBatches:
    torch.manual_seed(0)
    indices, phones = list(range(24)), {i: [1 + i, 2, 3] for i in range(24) if i % 3}
    pooled = pooled_targets(Clara(CONFIG).eval(), corpus, indices)
    assert (pooled.norm(dim=1) > 0).tolist() == [i % 3 == 0 for i in range(24)]
    speech = RandomSpeech(CONFIG.phone_head.phones, {"es": 1.0}) if CONFIG.phone_head else None
    return kind(corpus, indices, [1.0] * 24, phones, pooled, MEL, RECOGNITION, speech)


def weights_after(corpus: Corpus, checkpoint: Path, kind: type[PhoneBatches] = PhoneBatches) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    model = widen(Clara(CONFIG))
    fit_phones(model, batches(corpus, kind), RECOGNITION, checkpoint, workers=0)
    return model.state_dict()


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_weights(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        weights_after(corpus, tmp_path / "interrupted.pt", Interrupting)
    assert torch.load(tmp_path / "interrupted.pt", weights_only=True)["step"] == 4
    resumed = weights_after(corpus, tmp_path / "interrupted.pt")
    whole = weights_after(corpus, tmp_path / "whole.pt")
    for name, tensor in whole.items():
        # espeak-ng keeps the phase of its oscillators within a process, so synthetic speech differs a little.
        torch.testing.assert_close(resumed[name], tensor, atol=2e-3, rtol=0)
    assert (whole["audio.frame_convolutions.0.mix.weight"] != 0).any()


def test_a_run_whose_time_is_over_ends_with_a_checkpoint(corpus: Corpus, tmp_path: Path) -> None:
    config = replace(RECOGNITION, steps=10**6, minutes=1e-9)
    torch.manual_seed(1)
    model = widen(Clara(CONFIG))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    endless = batches(corpus)
    endless.config = config
    fit_phones(model, endless, config, tmp_path / "checkpoint.pt", workers=0)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 0
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name])


def test_a_wider_model_recognises_the_same() -> None:
    torch.manual_seed(0)
    model, mels = Clara(CONFIG).eval(), torch.randn(1, 40, 20)
    wider = widen(model).eval()
    assert wider.config.audio.frame_kernel == 5
    assert model.phone_head is not None
    assert wider.phone_head is not None
    before, _ = model.phone_head.predict_from_frames(*model.audio.encode_frames(mels))
    after, _ = wider.phone_head.predict_from_frames(*wider.audio.encode_frames(mels))
    torch.testing.assert_close(after[:, 0::3], before[:, 0::2], atol=1e-5, rtol=0)
    torch.testing.assert_close(after[:, 2::3], before[:, 1::2], atol=1e-5, rtol=0)
    assert widen(wider).state_dict().keys() == wider.state_dict().keys()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 3])
def test_a_model_gets_rules_and_a_projection_and_keeps_its_other_weights(folder: Path, steps: int) -> None:
    settings = SpeechFitting(
        excluded=("b:es",),
        recognition=replace(RECOGNITION, steps=steps),
        projection_recordings=6,
        projection_synthetic=4,
        projection_steps=2,
        words=1000,
        languages=("es",),
    )
    out = fit_speech(str(folder / "model"), [str(folder / "tones.csv")], settings, folder / f"run-{steps}")
    recorded, synthetic = (torch.load(folder / f"run-{steps}" / f"{name}.pt") for name in ("bigrams", "synthetic"))
    assert (recorded.shape, synthetic.shape) == ((6, 2756), (2, 4, 2756))
    assert (synthetic[1].sum(dim=1) >= 1).all()
    before, after = load_model(folder / "model")[0].state_dict(), load_model(out)[0].state_dict()
    assert (before["phone_head.bigram_projection.weight"] != after["phone_head.bigram_projection.weight"]).any()
    torch.testing.assert_close(before["text.tokens.weight"], after["text.tokens.weight"], atol=1e-3, rtol=1e-3)
    assert ("audio.frame_convolutions.0.mix.weight" in after) == (steps > 0)
    assert read_pronouncer(out / PRONUNCIATION_FILE).languages == ["es"]
    vectors = load_encoder(out, "cpu").encode_text(["¡Hola!", "hola"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
