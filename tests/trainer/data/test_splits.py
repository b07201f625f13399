import logging
from pathlib import Path

import pytest

from tests.helpers import write_tone
from tests.trainer.pretraining.test_run import RATE
from trainer.config.sections import DataConfig
from trainer.data.corpus import load_corpus
from trainer.data.splits import split_corpus


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
