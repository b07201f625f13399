import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clara_search.audio.mel import MelConfig
from clara_search.errors import FormatError
from clara_search.models.clara.checkpoint import copy_optional_files, describe, fingerprint, save_model
from clara_search.models.clara.phone_head import PhoneHeadConfig, known_phone_bigrams
from clara_search.models.clara.text_phones import PRONUNCIATION_FILE, phone_indices, pronounced_bigrams, read_pronouncer
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import load_encoder
from clara_search.text.pronunciation import LanguageRules, Pronouncer
from tests.clara_search.models.clara.test_towers import MASKED
from trainer.pretraining.tokenizer import train_tokenizer

RULES = Pronouncer(
    {
        "en": LanguageRules({f"|{letter}": letter for letter in "abcdefg"}, {}, {"_ab": -2.0, "_ba": -6.0}),
        "es": LanguageRules({"|a": "b", "|b": "a", "|g": "gg"}, {}, {"_ab": -6.0, "_ba": -2.0}),
    }
)
HEAD = PhoneHeadConfig(phones="abcdefg", slots_per_token=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny CLARA model with a phone head and pronunciation rules."""
    mel = MelConfig(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=16)
    torch.manual_seed(1)
    tokenizer = train_tokenizer(["abc", "dad", "яя"], MASKED.text.vocab_size, ["en"])
    save_model(tmp_path / "model", Clara(replace(MASKED, mel=mel, phone_head=HEAD)), tokenizer, "")
    RULES.save(tmp_path / "model" / PRONUNCIATION_FILE)
    return tmp_path / "model"


def bigrams_of(phones: str) -> torch.Tensor:
    indices = torch.tensor([phone_indices(phones, HEAD.phones)])
    return known_phone_bigrams(indices, torch.tensor([indices.shape[1]]), len(HEAD.phones))[0]


def test_texts_have_the_bigrams_of_their_phones() -> None:
    counts, known = pronounced_bigrams(RULES, HEAD.phones, ["Bad, cafe!", "яя", ""], "en")
    assert known.tolist() == [True, False, False]
    torch.testing.assert_close(counts[0], bigrams_of("badcafe"))
    assert not counts[1:].any()


def test_bigrams_of_a_doubtful_language_are_weighted_by_its_probability() -> None:
    english, spanish = (reading.probability for reading in RULES.pronounce("g"))
    counts, _ = pronounced_bigrams(RULES, HEAD.phones, ["g"], None)
    torch.testing.assert_close(counts[0], english * bigrams_of("g") + spanish * bigrams_of("gg"))


def test_case_and_punctuation_of_a_text_change_nothing(folder: Path) -> None:
    vectors = load_encoder(folder, "cpu").encode_text(["bad cafe", "Bad, CAFE!", "“bad” — café".replace("é", "e")])
    np.testing.assert_allclose(vectors[1:], vectors[[0, 0]], atol=1e-6)


def test_a_text_has_the_same_vector_alone_and_beside_one_without_rules(folder: Path) -> None:
    encoder = load_encoder(folder, "cpu")
    together = encoder.encode_text(["bad", "яя яя", "ab ba ab ba"])
    alone = np.concatenate([encoder.encode_text([text]) for text in ("bad", "яя яя", "ab ba ab ba")])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_script_without_rules_is_read_by_the_text_tower(folder: Path) -> None:
    with_rules = load_encoder(folder, "cpu").encode_text(["яя", "bad"])
    (folder / PRONUNCIATION_FILE).unlink()
    without = load_encoder(folder, "cpu").encode_text(["яя", "bad"])
    np.testing.assert_allclose(with_rules[0], without[0], atol=1e-6)
    assert np.abs(with_rules[1] - without[1]).max() > 1e-3


def test_rules_belong_to_the_fingerprint_and_go_with_a_copy(folder: Path, tmp_path: Path) -> None:
    first = fingerprint(folder)
    assert describe(folder)["fingerprint"] == first
    assert copy_optional_files(folder, tmp_path / "copy") == [PRONUNCIATION_FILE]
    assert (tmp_path / "copy" / PRONUNCIATION_FILE).read_bytes() == (folder / PRONUNCIATION_FILE).read_bytes()
    (folder / PRONUNCIATION_FILE).unlink()
    assert fingerprint(folder) != first


def test_rules_without_a_phone_head_are_refused(folder: Path) -> None:
    tokenizer = train_tokenizer(["abc"], MASKED.text.vocab_size, ["en"])
    save_model(folder, Clara(MASKED), tokenizer, "")
    assert not (folder / PRONUNCIATION_FILE).exists()  # of the model that stood there
    RULES.save(folder / PRONUNCIATION_FILE)
    with pytest.raises(FormatError, match="without a phone head"):
        load_encoder(folder, "cpu")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        json.dumps({"format_version": 2, "languages": {}}),
        json.dumps({"format_version": 1, "languages": {"en": {"rules": "a", "words": "", "features": ""}}}),
        json.dumps({"format_version": 1, "languages": {"en": {"rules": "", "words": "", "features": "a\tb"}}}),
        json.dumps(
            {"format_version": 1, "languages": {"en": {"rules": "|a\t" + "a" * 101, "words": "", "features": ""}}}
        ),
        json.dumps({"format_version": 1, "languages": {"en": 1}}),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pronunciation.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=r"pronunciation\.json"):
        read_pronouncer(path)
