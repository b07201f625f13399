import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.tasks.extraction import write_tones
from clara_search.datasets.labelled import read_clips
from tests.helpers import write_tone
from trainer.probing.experiment import ProbeConfig
from trainer.probing.run import FIRST_EPOCH, probe


def test_extraction_is_compared_with_the_encoder_alone(tmp_path: Path) -> None:
    for number in range(6):
        write_tone(tmp_path / f"{number}.wav", 200 + 15 * number, 0.1)
    (tmp_path / "m.csv").write_text("path,text\n" + "".join(f"{number}.wav,a tone\n" for number in range(6)))
    arguments = ["extraction", "--data", tmp_path / "m.csv", "--rounds", 2, "--cached", 0, "--out", tmp_path / "o.json"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    result_json = json.loads((tmp_path / "o.json").read_text())
    assert result_json["speed"]["clips"] == 6
    assert len(result_json["speed"]["ratios"]) == 2
    assert "of the encoder's throughput" in result.output


@pytest.mark.slow
def test_a_second_probe_computes_no_vectors_and_logs_the_time_of_its_first_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="trainer")
    manifest = write_tones(20, tmp_path)
    assert len({clip.audio.read_bytes() for clip in read_clips(manifest)}) == 20  # type: ignore[union-attr]
    for computed in (20, 0):
        caplog.clear()
        report = probe(ProbeConfig(str(manifest), ("pitch",)), tmp_path / "run", tmp_path / "cache")
        assert report["vectors_computed"] == computed
        assert sum(FIRST_EPOCH in record.getMessage() for record in caplog.records) == 1
