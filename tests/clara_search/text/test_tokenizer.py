from pathlib import Path

import numpy as np
import pytest

from clara_search.errors import FormatError
from clara_search.text.tokenizer import Tokenizer
from trainer.pretraining.tokenizer import train_tokenizer

TEXTS = ["a dog barks", "ein Hund bellt laut", "собака лает", "un chien aboie", "犬が吠える"] * 20


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, vocab_size=400, languages=["en", "de", "pt-BR"])


def test_a_saved_tokenizer_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    ids, mask = tokenizer.encode(["a dog barks 🐕", "x"], ["en", None], 99)
    again, mask_again = loaded.encode(["a dog barks 🐕", "x"], ["en", None], 99)
    np.testing.assert_array_equal(ids, again)
    np.testing.assert_array_equal(mask, mask_again)


def test_every_text_has_ids_whatever_its_script(tokenizer: Tokenizer) -> None:
    _, mask = tokenizer.encode(["ქართული", "\u0000\n", ""], [None] * 3, 99)
    assert mask.sum(axis=1).tolist()[2] == 1  # nothing but the language token
    assert (mask.sum(axis=1)[:2] > 1).all()


def test_case_does_not_matter(tokenizer: Tokenizer) -> None:
    ids, _ = tokenizer.encode(["A DOG barks", "a dog barks"], [None, None], 99)
    np.testing.assert_array_equal(ids[0], ids[1])


def test_a_language_has_its_token_in_any_letter_case(tokenizer: Tokenizer) -> None:
    ids, _ = tokenizer.encode(["x"] * 4, ["pt-BR", "PT-br", "xx", None], 99)
    assert ids[0, 0] == ids[1, 0]
    assert ids[2, 0] == ids[3, 0] != ids[0, 0]


@pytest.mark.parametrize("language", ["xx", "pad", "Chinese"])
def test_a_language_without_a_token_is_undetermined_which_is_logged_once(
    language: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=400, languages=["en", "de", "pt-BR"])
    for _ in range(2):
        ids, _ = tokenizer.encode(["x", "x"], [language, None], 99)
        assert ids[0, 0] == ids[1, 0]
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"the model has no token for the language '{language}': its texts get <|und|> (")


def test_a_language_that_is_not_known_is_not_logged(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    ids, _ = tokenizer.encode(["x"] * 5, [None, "", "und", "zxx", "mul"], 99)
    assert len(set(ids[:, 0].tolist())) == 1
    assert not caplog.records


@pytest.mark.parametrize(
    ("known", "requested"),
    [("zh", "chinese"), ("zh-CN", "Chinese"), ("he", "hebrew"), ("iw", "he"), ("nb", "Norwegian"), ("no", "nb")],
)
def test_a_language_has_its_token_by_whichever_of_its_codes_the_model_knows(known: str, requested: str) -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=400, languages=["en", known])
    ids, _ = tokenizer.encode(["x", "x", "x"], [requested, known, "en"], 99)
    assert ids[0, 0] == ids[1, 0] != ids[2, 0]


def test_long_texts_are_cut(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer.encode(["a dog barks " * 50], [None], 16)
    assert ids.shape == mask.shape == (1, 16)


def test_dropout_cuts_texts_into_smaller_pieces_the_same_again_for_the_same_seed(tokenizer: Tokenizer) -> None:
    plain, _ = tokenizer.encode(["a dog barks"], [None], 99)
    letters, _ = tokenizer.encode(["a dog barks"], [None], 99, dropout=1.0, rngs=[np.random.default_rng(0)])
    assert letters.shape[1] == 1 + len(" a dog barks")
    text = ["a dog barks " * 9]
    some = [tokenizer.encode(text, [None], 99, dropout=0.5, rngs=[np.random.default_rng(7)])[0] for _ in range(2)]
    np.testing.assert_array_equal(*some)
    assert tokenizer.encode(text, [None], 99)[0].shape[1] < some[0].shape[1] < 1 + len(text[0])
    np.testing.assert_array_equal(plain, tokenizer.encode(["a dog barks"], [None], 99)[0])


@pytest.mark.parametrize("content", ["", "{}", '{"model": 3}'])
def test_a_broken_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(FormatError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path / "tokenizer.json")
