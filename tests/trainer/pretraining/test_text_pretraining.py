"""Pretraining of a text tower on pronunciations, and the pronunciations."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from clara_search.errors import ConfigError, FormatError
from clara_search.models.clara.checkpoint import load_model, save_model
from clara_search.models.clara.config import AudioTowerConfig, ClaraConfig, TextTowerConfig
from clara_search.models.clara.phone_head import BLANK, PhoneHeadConfig
from clara_search.models.clara.towers import Clara
from clara_search.text.tokenizer import Tokenizer
from trainer.__main__ import main
from trainer.phones.pronunciations import Pronunciation, load_pronunciations, sample_pronunciations
from trainer.pretraining.text_pretraining import Anchors, pretrain_text
from trainer.pretraining.tokenizer import train_tokenizer

needs_words = pytest.mark.skipif(
    find_spec("wordfreq") is None or find_spec("espeakng_loader") is None,
    reason="wordfreq or espeakng-loader is not installed",
)

CONFIG = ClaraConfig(
    "reader",
    32,
    audio=AudioTowerConfig(
        width=8, positions="sinusoidal", latents=2, latent_dim=8, latent_layers=0, pooling="latents", hidden=8
    ),
    text=TextTowerConfig(
        400, "sinusoidal", 64, width=48, layers=1, heads=2, feed_forward=64, pre_norm=True, proj_dim=48, hidden=48
    ),
    phone_head=PhoneHeadConfig("abdeiklmnoprstu"),
)


@pytest.fixture(scope="module")
def pronunciations() -> list[Pronunciation]:
    rng = np.random.default_rng(0)
    syllables = [consonant + vowel for consonant in "bdklmnprst" for vowel in "aeiou"]
    words = ["".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(40)]
    samples = [rng.choice(words, rng.integers(1, 5)) for _ in range(2000)]
    return [Pronunciation(" ".join(some).title(), "xx", " ".join(some)) for some in samples]


@pytest.fixture(scope="module")
def tokenizer(pronunciations: list[Pronunciation]) -> Tokenizer:
    return train_tokenizer([pronunciation.text for pronunciation in pronunciations], 400, set())


def test_held_out_texts_find_their_phones(pronunciations: list[Pronunciation], tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    model = Clara(CONFIG).eval()
    kept = {name: x.clone() for name, x in model.state_dict().items() if name.startswith("audio")}
    assert pretrain_text(model, tokenizer, pronunciations, steps=40, lr=6e-3) > 0.3  # chance is 1 of 200
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in kept.items())


@pytest.mark.slow
def test_tokens_tell_phones_and_names_keep_their_vectors(
    pronunciations: list[Pronunciation], tokenizer: Tokenizer
) -> None:
    torch.manual_seed(0)
    assert CONFIG.phone_head is not None
    model = Clara(replace(CONFIG, phone_head=replace(CONFIG.phone_head, slots_per_token=4))).eval()
    names = ["rain", "A DOG", "the sound of thunder"]
    ids, mask = map(torch.from_numpy, tokenizer.encode(names, [None] * 3, 64))
    with torch.inference_mode():
        kept = Anchors(names, model.embed_tokens(ids, mask).clone())
    assert pretrain_text(model, tokenizer, pronunciations, steps=60, lr=6e-3, anchors=kept) > 0.6
    with torch.inference_mode():
        assert (model.embed_tokens(ids, mask) * kept.vectors).sum(dim=1).min() > 0.9
        ids, mask = map(torch.from_numpy, tokenizer.encode([pronunciations[0].text], [None], 64))
        assert model.phone_head is not None
        logits, _ = model.phone_head.predict_from_tokens(model.text.encode_tokens(ids, mask), mask)
    predicted = "".join(
        CONFIG.phone_head.phones[slot - 1] for slot in logits[0].argmax(dim=1).tolist() if slot != BLANK
    )
    assert predicted == pronunciations[0].phones.replace(" ", "")


def test_a_model_without_a_phone_head_is_refused(pronunciations: list[Pronunciation], tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="no phone head"):
        pretrain_text(Clara(ClaraConfig(audio=CONFIG.audio, text=CONFIG.text)), tokenizer, pronunciations, steps=1)


@needs_words
def test_the_same_seed_samples_the_same_texts() -> None:
    samples = list(sample_pronunciations(50, seed=3, weights={"it": 1.0}))
    assert samples == list(sample_pronunciations(50, seed=3, weights={"it": 1.0}))
    assert samples != list(sample_pronunciations(50, seed=4, weights={"it": 1.0}))
    assert all(pronunciation.phones and pronunciation.language == "it" for pronunciation in samples)
    assert len({pronunciation.text for pronunciation in samples}) > 40


@needs_words
def test_the_command_writes_a_model_folder(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts, model_folder = tmp_path / "texts.jsonl", tmp_path / "model_folder"
    run = CliRunner().invoke(main, ["make-pronunciations", "--out", str(texts), "--count", "60", "--language", "fr"])
    assert run.exit_code == 0, run.output
    assert len(load_pronunciations(texts)) == 60
    torch.manual_seed(0)
    save_model(model_folder, Clara(CONFIG), tokenizer, card="")
    arguments = ["pretrain-text", "tiny.toml", "--pronunciations", str(texts), "--out", str(tmp_path / "run")]
    arguments += ["--steps", "2", "--init", str(model_folder), "--set", "preset="]
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code == 0, run.output
    model, _ = load_model(tmp_path / "run" / "model")
    assert model.phone_head is not None


def test_a_broken_file_of_readings_is_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a"}\n')
    with pytest.raises(FormatError, match=r"texts\.jsonl: not a file of pronunciations"):
        load_pronunciations(path)
