from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from clara_search.datasets.example import Example
from clara_search.errors import FormatError
from trainer.config.captions import CaptionConfig
from trainer.config.recipe import bundled_file
from trainer.data.captions import Captions, Generator, Translations, fuse_captions

SOUND = Example("1", b"", "wolf growl", language="zxx", text_language="en")
SPEECH = Example("2", b"", "Hello there", language="en", text_language="en", kind="speech")


@pytest.fixture(scope="module")
def table() -> Translations:
    return Translations.load(bundled_file("sounds.csv"))


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("wolf growl", "de", "Wolf Knurren"),
        ("wolf growl", "es", "gruñido lobo"),
        ("Chopping wood", "ru", "рубить дрова"),
        ("footstep on snow", "fr", "pas sur neige"),
        ("sabian crash", "it", None),
    ],
)
def test_names_of_sounds_are_translated_phrase_by_phrase(
    table: Translations, text: str, language: str, expected: str | None
) -> None:
    assert table.translate(text, language) == expected
    assert table.languages == ["de", "es", "fr", "it", "ru"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("en,de\ndog,\n", "'dog,' should have 2 words"), ("en,de\n", "no translations"), ("", "not a table")],
)
def test_a_broken_table_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(FormatError, match=rf"t\.csv: .*{message}"):
        Translations.load(tmp_path / "t.csv")


def texts(captions: Captions, example: Example, background: Example | None = None) -> Counter[tuple[str, str | None]]:
    return Counter(captions.sample(example, np.random.default_rng(seed), background) for seed in range(200))


def test_names_are_framed_and_translated_as_often_as_asked(table: Translations) -> None:
    counts = texts(Captions(CaptionConfig(template_probability=0.5, translation_probability=0.4), table), SOUND)
    assert 40 < counts["wolf growl", "en"] < 90
    assert 50 < sum(count for (_, language), count in counts.items() if language != "en") < 100
    assert counts["the sound of wolf growl", "en"] > 0
    assert counts["gruñido lobo", "es"] > 0


def test_transcripts_are_unchanged_unless_a_label_fits_a_template() -> None:
    captions = Captions(CaptionConfig(template_probability=1.0))
    assert set(texts(captions, SPEECH)) == {("Hello there", "en")}
    angry = Example("3", b"", "Go", language="en", text_language="en", kind="speech", label="emotion:angry")
    assert ("a person talking in a angry voice", "en") in texts(captions, angry)


def test_each_of_several_texts_is_used() -> None:
    example = Example("4", b"", "a", kind="speech", alternatives=("b", "c"))
    assert {text for text, _ in texts(Captions(CaptionConfig()), example)} == {"a", "b", "c"}


def test_a_blend_is_called_by_both() -> None:
    captions = Captions(CaptionConfig(template_probability=0.0))
    assert set(texts(captions, SPEECH, SOUND)) == {(fuse_captions("Hello there", "wolf growl"), "en")}
    czech = Example("5", b"", "Ahoj", language="cs", text_language="cs", kind="speech")
    assert {language for _, language in texts(captions, czech, SOUND)} == {None}


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed (extra: teacher)")
def test_a_model_can_write_the_captions_of_blends(tmp_path: Path) -> None:
    import tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    bpe.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator([], tokenizers.trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=["<e>"]))
    PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<e>").save_pretrained(tmp_path)
    GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path)
    generator = Generator(tmp_path)
    written = generator("Hello", "rain")
    assert written == generator("Hello", "rain")
    assert isinstance(written, str)
    assert written
    with pytest.raises(FormatError, match="not a text-generation model"):
        Generator(tmp_path / "none")
