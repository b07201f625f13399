"""Published protocols through the command: five captions a clip, declared splits, copies, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from benchmarks.__main__ import main
from benchmarks.tasks.quality import retrieval as task
from benchmarks.tasks.quality.with_index import score_index, some_efforts
from clara_search.audio.waveform import Waveform
from clara_search.metrics.ranking import relevant_ranks
from clara_search.metrics.retrieval import hits_at_k
from clara_search.models.base import Embeddings
from trainer.data.text_split import text_split

CLIPS, CAPTIONS, RATE = 12, 5, 16_000


class PerfectEncoder:
    """Knows the number of a clip, which its recording holds as a level, and of a caption, "... clip N"."""

    name, fingerprint, dim, sample_rate = "perfect", "0" * 64, 32, RATE

    def encode_audio(self, waveforms: list[Waveform]) -> Embeddings:
        return self._vectors([round(float(np.abs(waveform).max()) * 64) for waveform in waveforms])

    def encode_text(self, texts: list[str], language: str | None = None) -> Embeddings:
        return self._vectors([int(text.split()[-1]) for text in texts])

    def _vectors(self, numbers: list[int]) -> Embeddings:
        return np.eye(self.dim, dtype=np.float32)[numbers]


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> PerfectEncoder:
    encoder = PerfectEncoder()
    monkeypatch.setattr(task, "load_encoder", lambda model: encoder)
    return encoder


def write_clip(folder: Path, name: str, number: int) -> None:
    soundfile.write(folder / name, np.full(RATE // 4, number / 64, dtype=np.float32), RATE)


def write_clips(folder: Path, rows: list[dict[str, Any]]) -> Path:
    for row in rows:
        if not (folder / row["path"]).exists():
            write_clip(folder, row["path"], int(row["path"].split("-")[0]))
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def captions(number: int) -> list[str]:
    return [f"caption {k} of clip {number}" for k in range(CAPTIONS)]


def invoke(data: Path | str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["retrieval", "--data", str(data), *arguments])


def score(folder: Path, data: Path | str, *arguments: str) -> dict[str, Any]:
    result = invoke(data, *arguments, "--out", str(folder / "run.json"))
    assert result.exit_code == 0, result.output
    written: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return written


@pytest.mark.parametrize("way", ["lists", "rows", "scattered rows"])
def test_perfect_vectors_of_five_captions_a_clip_score_one_both_ways(way: str, tmp_path: Path) -> None:
    clips = [f"{number}-a.wav" for number in range(1, CLIPS + 1)]
    if way == "lists":
        rows: list[dict[str, Any]] = [{"path": path, "text": captions(n)} for n, path in enumerate(clips, 1)]
    else:
        rows = [{"path": path, "text": text} for n, path in enumerate(clips, 1) for text in captions(n)]
        rows.sort(key=lambda row: row["text"] if way == "scattered rows" else row["path"])
    written = score(tmp_path, write_clips(tmp_path, rows), "--split", "all")
    to_audio, to_text = (written["scores"]["all"][name] for name in ("text_to_audio", "audio_to_text"))
    assert (to_audio["n_queries"], to_audio["n_gallery"]) == (CLIPS * CAPTIONS, CLIPS)
    assert (to_text["n_queries"], to_text["n_gallery"]) == (CLIPS, CLIPS * CAPTIONS)
    for scores in (to_audio, to_text):
        assert set(scores["recall"].values()) == {1.0}
        assert scores["map10"] == scores["map16"] == 1.0
    assert (written["clips"], written["captions"], written["different_captions"]) == (CLIPS, 60, 60)
    assert written["complete"]
    assert "min(m, k)" in written["rules"]


def test_splits_that_the_data_declares_are_kept_and_others_follow_the_texts(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"path": f"{n}-a.wav", "text": captions(n), "split": split}
        for n, split in enumerate(["train", "dev", "eval", "testing", "Test"], 1)
    ]
    data = write_clips(tmp_path, rows)
    written = score(tmp_path, data)
    assert (written["clips"], written["split_by"]) == (3, {"the data": 3})
    assert score(tmp_path, data, "--split", "valid")["clips"] == 1
    rows[0]["split"] = "holdout"
    result = invoke(write_clips(tmp_path, rows))
    assert result.exit_code == 1
    assert "split is 'holdout', expected one of train, valid, test" in result.output


def test_a_clip_without_a_split_follows_the_first_of_all_captions_that_belong_together(tmp_path: Path) -> None:
    numbers = range(1, 2000)
    held_out = next(text for n in numbers if text_split(text := f"a{n} of clip 1") == "test")
    trained = next(text for n in numbers if text_split(text := f"b{n} of clip 1") == "train")
    rows: list[dict[str, Any]] = [
        {"path": "1-a.wav", "text": [trained, held_out]},
        {"path": "1-b.wav", "text": [trained]},
        {"path": "2-a.wav", "text": ["c of clip 2"], "split": "train"},
    ]
    written = score(tmp_path, write_clips(tmp_path, rows), "--split", "test")
    assert (written["clips"], written["split_by"]) == (2, {"hash of the texts": 2})


def test_copies_under_other_names_are_one_clip_and_captions_may_be_shared(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"path": "1-a.wav", "text": ["first clip 1", "both clip 1"]},
        {"path": "1-b.wav", "text": ["second clip 1", "Both clip 1!"]},
        {"path": "2-a.wav", "text": ["other clip 2"]},
    ]
    data = write_clips(tmp_path, rows)
    written = score(tmp_path, data, "--split", "all")
    assert (written["copies"], written["captions"], written["different_captions"]) == (1, 5, 4)
    for scores in written["scores"]["all"].values():
        assert (scores["recall"]["1"], scores["map10"]) == (1.0, 1.0)


def test_what_is_missing_is_counted_and_marks_the_scores(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"path": f"{n}-a.wav", "text": captions(n)} for n in range(1, 5)]
    data = write_clips(tmp_path, rows)
    with data.open("a") as file:
        file.write('{"path": "gone.wav", "text": "a caption of clip 5"}\n')
        file.write('{"path": "1-a.wav", "text": " "}\n')
        file.write('{"text": "a caption of no clip 6"}\n')
    refused = invoke(data, "--split", "all")
    assert refused.exit_code == 1
    assert "are missing or cannot be used" in refused.output
    assert "--allow-missing scores the others" in refused.output
    written = score(tmp_path, data, "--split", "all", "--allow-missing")
    assert not written["complete"]
    assert any("gone.wav" in line for line in written["failures"])
    assert any("line 7" in line and "path" in line for line in written["failures"])
    assert written["clips"] == 4
    assert "INCOMPLETE: 2 " in invoke(data, "--split", "all", "--allow-missing").output


def test_a_copy_of_a_published_dataset_is_scored_in_its_own_split(tmp_path: Path) -> None:
    root = tmp_path / "clotho"
    for part, numbers in (("development", [1]), ("validation", [2]), ("evaluation", [3, 4, 5])):
        (root / part).mkdir(parents=True)
        lines = ["file_name,caption_1,caption_2,caption_3,caption_4,caption_5"]
        for number in numbers:
            write_clip(root / part, f"{number}.wav", number)
            lines.append(",".join([f"{number}.wav", *captions(number)]))
        (root / f"clotho_captions_{part}.csv").write_text("\n".join(lines) + "\n")
    written = score(tmp_path, f"clotho:{root}")
    assert (written["clips"], written["captions"], written["split_by"]) == (3, 15, {"the data": 3})
    assert written["scores"]["all"]["text_to_audio"]["recall"]["1"] == 1.0
    assert written["contamination"]["tested"] == {"clotho": 3}
    (root / "evaluation" / "4.wav").unlink()
    refused = invoke(f"Clotho:{root}")
    assert refused.exit_code == 1
    assert "1 recordings or captions are missing" in refused.output
    assert "evaluation/4.wav: there is no such file" in refused.output
    assert score(tmp_path, f"Clotho:{root}", "--allow-missing")["clips"] == 2


def test_an_index_is_scored_beside_exact_search(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"path": f"{n}-a.wav", "text": captions(n)} for n in range(1, CLIPS + 1)]
    written = score(tmp_path, write_clips(tmp_path, rows), "--split", "all", "--index", "flat")
    for by_effort in written["index"]["by_effort"].values():
        assert by_effort[-1]["recall"] == {"1": 1.0, "5": 1.0, "10": 1.0}
        assert by_effort[-1]["loss"] == {"1": 0.0, "5": 0.0, "10": 0.0}


def test_an_index_loses_at_low_effort_what_it_finds_at_the_highest() -> None:
    generator = np.random.default_rng(0)
    gallery = generator.normal(size=(2000, 32)).astype(np.float32)
    queries = np.repeat(gallery[:400], 2, axis=0) + generator.normal(size=(800, 32)).astype(np.float32)
    gallery, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (gallery, queries))
    relevant = [[n // 2] for n in range(800)]
    exact = {k: hits_at_k(relevant_ranks(queries, gallery, relevant), k) for k in (1, 10)}
    scored = score_index("ivf", queries, gallery, relevant, exact)
    assert scored[-1]["loss"] == {1: 0.0, 10: 0.0}
    assert scored[-1]["recall"][10] == pytest.approx(exact[10].mean())
    first = scored[0]["loss"]
    assert first[10] > 0.1
    assert scored[0]["loss_interval"][10][0] < first[10] < scored[0]["loss_interval"][10][1]
    assert [facts["loss"][10] for facts in scored] == sorted((x["loss"][10] for x in scored), reverse=True)


def test_the_efforts_of_an_index_are_doubled_up_to_the_last() -> None:
    assert some_efforts([7]) == [7]
    assert some_efforts(range(1, 6)) == [1, 2, 4, 5]
    assert some_efforts(range(1, 9)) == [1, 2, 4, 8]
