"""Labels as manifests have them: missing, broken, of other alphabets, several a clip."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from clara_search.errors import ConfigError, SourceError
from tests.trainer.probing.conftest import probe_config
from trainer.probing.experiment import ProbeConfig
from trainer.probing.run import probe
from trainer.probing.sgd import FitConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("pitch", "mood"), r"no column 'pitch', or nothing in it; it has mood, path, source, speaker, tags, text"),
        ((",high,", ",low,"), r"column 'pitch' needs at least 2 labels of 2 clips; it has low 40"),
        (("tags", "split"), r"the split 'train' is empty"),
    ],
)
def test_bad_labels_are_one_line(
    change: tuple[str, str], message: str, small: Path, tones: Path, tmp_path: Path
) -> None:
    tones.write_text(tones.read_text().replace(*change))
    with pytest.raises((ConfigError, SourceError), match=message):
        probe(probe_config(tones, small), tmp_path / "run", tmp_path / "cache")


def test_nan_is_no_label_and_a_row_that_is_not_utf8_is_skipped(
    small: Path, tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = [float("nan") if n < 4 else float(n % 2) for n in range(40)]
    columns = {"path": [f"{n}.wav" for n in range(40)], "pitch": numbers, "speaker": [n // 10 for n in range(40)]}
    pa.parquet.write_table(pa.table(columns), tones.parent / "m.parquet")
    report = probe(
        probe_config(tones.parent / "m.parquet", small, head="logistic"), tmp_path / "run", tmp_path / "cache"
    )
    assert (report["labels"]["pitch"]["classes"], report["labels"]["pitch"]["n"]) == (["0", "1"], 36)
    text = tones.read_text()
    tones.write_bytes(text.replace("2.wav,a tone", "2.wav,a t\xf6ne", 1).encode("latin-1"))
    report = probe(probe_config(tones, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    assert report["labels"]["pitch"]["n"] == 39
    assert "line 4: not UTF-8" in caplog.text
    tones.write_bytes(text.replace("a tone", "\xf6").encode("latin-1"))
    with pytest.raises(SourceError, match=r"names no recording that can be used .*line 2: not UTF-8"):
        probe(probe_config(tones, small), tmp_path / "run", tmp_path / "cache")


def test_labels_may_be_formulas_or_chinese(
    small: Path, tones: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    text = tones.read_text().replace("a tone,low", r"a tone,$\no{formula$").replace("a tone,high", "a tone,\u9ad8")
    tones.write_text(text, encoding="utf-8")
    report = probe(probe_config(tones, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    assert report["labels"]["pitch"]["classes"] == [r"$\no{formula$", "\u9ad8"]
    assert (tmp_path / "run" / "confusion-pitch.png").stat().st_size > 100
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_settings_that_would_be_ignored_are_refused(tones: Path, tmp_path: Path) -> None:
    for fit, multi_label in ((FitConfig("knn", balance="weights"), False), (FitConfig(balance="sampling"), True)):
        with pytest.raises(ValueError, match="cannot be balanced"):
            ProbeConfig(str(tones), ("pitch",), fit=fit, multi_label=multi_label)


def test_a_tab_separated_manifest_is_read(small: Path, tones: Path, tmp_path: Path) -> None:
    tabs = tones.with_suffix(".tsv")
    tabs.write_text(tones.read_text().replace('"high,loud"', "loud").replace(",", "\t"))
    report = probe(probe_config(tabs, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    assert report["labels"]["pitch"]["n"] == 40


def test_several_labels_a_clip_are_scored_by_map(small: Path, tones: Path, tmp_path: Path) -> None:
    changed_config = replace(probe_config(tones, small, "tags", head="logistic"), multi_label=True)
    report = probe(changed_config, tmp_path / "run", tmp_path / "cache")
    scores = report["labels"]["tags"]
    assert scores["classes"] == ["high", "loud", "low"]
    assert scores["scores"]["map"]["value"] > scores["chance"]["map"] == pytest.approx(0.5)
