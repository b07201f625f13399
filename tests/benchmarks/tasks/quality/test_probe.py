import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.tasks.quality.probe import LogMelStatistics, drop_rare_classes, of_kind, with_groups
from clara_search.audio.mel import MelConfig
from clara_search.datasets.labelled import Clip
from clara_search.errors import QueryError
from tests.helpers import tone, write_tone


@pytest.mark.slow
def test_encoders_are_compared_and_training_sources_are_marked(tmp_path: Path) -> None:
    rows = ["path,text,label,source,speaker"]
    for number in range(16):
        high = number % 2
        write_tone(tmp_path / f"{number}.wav", (3000 if high else 200) + 15 * number, 0.1)
        rows.append(f"{number}.wav,a tone,pitch:{'high' if high else 'low'},hydrogen,kit-{number // 4}")
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    arguments = ["probe", "--data", tmp_path / "m.csv", "--kind", "pitch", "--cache", tmp_path / "cache"]
    arguments += ["--out", tmp_path / "out.json"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    result_json = json.loads((tmp_path / "out.json").read_text())
    scores = result_json["kinds"]["pitch"]["scores"]
    assert list(scores) == ["log-mel statistics", "random weights", "clara-small"]
    assert scores["log-mel statistics"]["scores"]["accuracy"]["value"] > 0.9
    assert {facts["n"] for facts in scores.values()} == {16}
    assert result_json["kinds"]["pitch"]["groups"] == 4
    assert result_json["kinds"]["pitch"]["contamination"]["trained_on"] == ["hydrogen"]
    assert "Marked scores are not of unseen recordings" in result.output
    assert "| pitch | 16 | 2 | 4 |" in result.output


def test_groups_are_speakers_or_sources_or_texts() -> None:
    def clip(**columns: str) -> Clip:
        return Clip("x", Path("x"), columns)

    both = with_groups([clip(speaker="a", source="s", text="x"), clip(source="s", text="y")])
    assert [one.value("speaker") for one in both] == ["a", "s"]
    alone = with_groups([clip(speaker="font", text="Piano C4", split="train"), clip(speaker="font", text="piano, c4")])
    assert [one.value("speaker") for one in alone] == ["text piano c4"] * 2
    assert alone[0].split is None
    with pytest.raises(QueryError, match="the data has the kinds drum"):
        of_kind([clip(label="drum:kick")], "animal")


def test_a_class_of_few_groups_is_left_out() -> None:
    def clips(**groups: str) -> list[Clip]:
        return [Clip("x", Path("x"), {"drum": name, "speaker": kit}) for name, kits in groups.items() for kit in kits]

    common = drop_rare_classes(clips(kick="abc", snare="abcd", bell="ab", gong="d"), "drum")
    assert {clip.value("drum") for clip in common} == {"kick", "snare"}
    assert len(drop_rare_classes(clips(kick="ab", snare="ab"), "drum")) == 4
    with pytest.raises(QueryError, match="no class of 'drum' comes from 3"):
        drop_rare_classes(clips(kick="ab", snare="c"), "drum")


def test_log_mel_statistics_depend_on_level_and_pitch() -> None:
    statistics = LogMelStatistics(MelConfig(16000, 512, 400, 160, 40, reference_db=20.0))
    vectors = statistics.encode_audio([tone(300), tone(3000), 0.1 * tone(300)])
    assert vectors.shape == (3, statistics.dim)
    assert np.linalg.norm(vectors[0] - vectors[2]) > 0.5
    assert np.linalg.norm(vectors[0] - vectors[1]) > 0.5
