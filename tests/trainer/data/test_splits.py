import logging
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from clara_search.datasets.example import Example
from tests.helpers import write_tone
from tests.trainer.pretraining.test_run import RATE
from trainer.config.sections import DataConfig
from trainer.data.corpus import Corpus, load_corpus
from trainer.data.splits import split_corpus
from trainer.data.text_split import text_split


def test_a_text_of_declared_splits_is_in_one_of_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        "a,Dog barks.,train",
        "b,rain,train",
        "c,dog barks,valid",
        "d,wind,val",
        "e,Wind!,test",
        "f,rain on tin,dev",
        "g,rooster,train,sound",
        "h,rooster,test,sound",
    ]
    lines = [f"{row[0]}.wav{row[1:]}" + ("" if row.endswith(",sound") else ",speech") for row in rows]
    (tmp_path / "m.csv").write_text("\n".join(["path,text,split,kind", *lines]))
    for number, row in enumerate(rows):
        write_tone(tmp_path / f"{row[0]}.wav", 200 + 100 * number, 0.2, RATE)
    corpus = load_corpus([str(tmp_path / "m.csv")], RATE, tmp_path)
    with caplog.at_level(logging.WARNING):
        splits = split_corpus(corpus, DataConfig())
    keys = {name: [corpus.examples[index].key for index in indices] for name, indices in vars(splits).items()}
    assert keys["train"] == ["b.wav", "g.wav"]
    assert keys["valid"] == ["c.wav", "f.wav"]
    assert keys["test"] == ["e.wav", "h.wav"]
    assert "1 recordings removed from train, their texts are held out: a.wav" in caplog.text
    assert "1 recordings removed from valid, their texts are held out: d.wav" in caplog.text


def captioned(declared: bool, *recordings: tuple[str, list[str], str | None]) -> tuple[Corpus, list[str]]:
    """Return a corpus of recordings with captions and perhaps a split, and their names."""
    examples = [
        Example(
            key=name,
            audio=Path(f"{name}.wav"),
            text=texts[0],
            alternatives=tuple(texts[1:]),
            split=split if declared else None,
            kind="sound",
        )
        for name, texts, split in recordings
    ]
    corpus = SimpleNamespace(examples=examples, hashes=list(range(len(examples))), duration_s=lambda _: 1.0)
    return cast(Corpus, corpus), [name for name, _, _ in recordings]


def test_no_caption_of_declared_splits_is_in_two_of_them(caplog: pytest.LogCaptureFixture) -> None:
    corpus, names = captioned(
        True,
        ("ab", ["a dog", "Barking!"], "train"),
        ("c", ["rain"], "train"),
        ("f", ["storm"], "train"),
        ("dc", ["wind", "storm"], "valid"),
        ("b", ["barking"], "test"),
        ("e", ["a storm", "Storm"], "test"),
    )
    with caplog.at_level(logging.WARNING):
        splits = split_corpus(corpus, DataConfig())
    assert [names[index] for index in splits.train] == ["c"]
    assert splits.valid == []
    assert [names[index] for index in splits.test] == ["b", "e"]
    assert "2 recordings removed from train, their texts are held out: ab, f" in caplog.text


def test_recordings_that_share_captions_are_in_one_split() -> None:
    chains = [[(f"{n}-{k}", [f"caption {n} {k}", f"caption {n} {k + 1}"], None) for k in range(5)] for n in range(60)]
    corpus, names = captioned(False, *(recording for chain in chains for recording in chain))
    splits = vars(split_corpus(corpus, DataConfig()))
    split_of = {names[index]: split for split, indices in splits.items() for index in indices}
    assert len(split_of) == 300
    assert all(len({split_of[f"{n}-{k}"] for k in range(5)}) == 1 for n in range(60))
    assert all(split_of[f"{n}-4"] == text_split(f"caption {n} 0") for n in range(60))
    assert set(split_of.values()) == {"train", "valid", "test"}
