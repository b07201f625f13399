"""The benchmarks on a few tones: their output, their selection of examples, and their figures."""

from __future__ import annotations

import csv
import json
from importlib import import_module

import click
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.examples import embed_examples, select
from benchmarks.stand_ins import BatchRecorder
from benchmarks.tasks.quality.zero_shot import prompts
from clara_search.datasets.example import Example
from clara_search.errors import QueryError
from tests.helpers import DIM, SAMPLE_RATE, ToneEncoder, tone, write_tone
from trainer.data.text_split import text_split
from trainer.evaluation.retrieval import embed_texts, score_pairs


class NotesEncoder(ToneEncoder):
    """A tone encoder whose vector of "note 3 of a scale" is that of the tone of `NOTES[3]`."""

    def encode_text(self, texts, language=None):
        numbers = [int(next(word for word in text.split() if word.isdigit())) for text in texts]
        return self.encode_audio([tone(NOTES[number]) for number in numbers])


NOTES = [100.0, 250.0, 600.0, 1500.0, 3000.0, 7000.0]


@pytest.fixture
def encoder(monkeypatch):
    encoder = NotesEncoder()
    for name in ("quality.retrieval", "quality.zero_shot", "indexing"):
        monkeypatch.setattr(import_module(f"benchmarks.tasks.{name}"), "load_encoder", lambda model: encoder)
    return encoder


@pytest.fixture
def manifest(tmp_path):
    """Two recordings of each note, the first called speech and the second sound, and a file that is no recording."""
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "text", "kind", "label", "language"])
        for number, frequency in enumerate(NOTES):
            for take, kind in enumerate(["speech", "sound"]):
                name = f"{number}-{take}.wav"
                write_tone(tmp_path / name, frequency, duration_s=1.0 + take / 4)
                spelling = f"Note {number} of a scale." if take else f"note {number} of a scale"
                rows.writerow([name, spelling, kind, f"n{number}", "en" if number < 3 else "de"])
        (tmp_path / "broken.wav").write_text("no sound")
        rows.writerow(["broken.wav", "note 0 of a scale", "sound", "n0", "en"])
    return path


def run(tmp_path, *arguments):
    out = tmp_path / "out" / "result.json"
    result = CliRunner().invoke(main, [*map(str, arguments), "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    assert written["machine"]["cores"] >= 1
    return result.stdout, written


def test_retrieval_scores_both_directions_overall_and_by_kind(tmp_path, manifest, encoder):
    table, result = run(tmp_path, "retrieval", "--data", manifest, "--split", "all", "--allow-missing")
    assert result["clips"] == 12
    assert len(result["failures"]) == 1
    assert set(result["scores"]) == {"all", "speech", "sound", "speech in all", "sound in all"}
    everything = result["scores"]["all"]
    # Two spellings are one text, with two recordings as its positives.
    assert (everything["text_to_audio"]["n_queries"], everything["text_to_audio"]["n_gallery"]) == (6, 12)
    assert (everything["audio_to_text"]["n_queries"], everything["audio_to_text"]["n_gallery"]) == (12, 6)
    assert everything["text_to_audio"]["recall"]["1"] == 1.0
    assert everything["text_to_audio"]["map10"] == 1.0
    assert everything["text_to_audio"]["chance_recall"]["1"] == pytest.approx(2 / 12)
    assert everything["audio_to_text"]["chance_recall"]["5"] == pytest.approx(5 / 6)
    assert result["scores"]["speech"]["text_to_audio"]["n_gallery"] == 6
    assert result["scores"]["speech in all"]["text_to_audio"]["n_gallery"] == 12
    assert table.startswith("| examples | direction | queries | gallery | R@1 (chance) |")
    assert "| all | text to audio | 6 | 12 | 100.0 [100.0, 100.0] (16.67) |" in table


def test_retrieval_with_random_vectors_is_at_chance():
    generator = np.random.default_rng(0)
    examples = [Example(str(n), b"", f"text {n}", kind="sound") for n in range(300)]
    audio = generator.normal(size=(300, DIM)).astype(np.float32)
    scores = score_pairs(ToneEncoder(), examples, audio / np.linalg.norm(audio, axis=1, keepdims=True))
    assert set(scores) == {"all"}
    low, high = scores["all"]["text_to_audio"].recall_interval[10]
    assert low - 0.02 <= scores["all"]["text_to_audio"].chance_recall[10] <= high + 0.02


def test_zero_shot_reports_accuracy_chance_and_interval(tmp_path, manifest, encoder):
    labels = "n0=note 0,n1=note 1,n2=note 2,n5=note 5"
    table, result = run(
        tmp_path, "zero-shot", "--data", manifest, "--labels", labels, "--template", "the {}", "--allow-missing"
    )
    assert result["scores"]["accuracy"] == 1.0
    assert (result["scores"]["n"], result["scores"]["chance"]) == (8, 0.25)
    assert result["scores"]["interval"][0] == pytest.approx(0.6756, abs=1e-3)
    assert result["per_label"] == {"n0": 1.0, "n1": 1.0, "n2": 1.0, "n5": 1.0}
    assert "| n5 (note 5) | 2 | 100.0% |" in table
    _, german = run(tmp_path, "zero-shot", "--data", manifest, "--labels", labels, "--where", "language=de")
    assert german["scores"]["n"] == 2


def test_labels_are_by_default_those_of_the_data():
    assert prompts(None, {"dog", "cat"}) == {"cat": "cat", "dog": "dog"}
    assert prompts("digit:7=seven, dog", set()) == {"digit:7": "seven", "dog": "dog"}
    with pytest.raises(QueryError, match="twice"):
        prompts("dog,dog=hound", set())


def test_indexing_is_compared_with_the_encoder_on_the_same_windows(tmp_path, manifest, encoder):
    arguments = ("indexing", "--data", manifest, "--clips", 8, "--rounds", 1)
    table, result = run(tmp_path, *arguments)
    assert result["clips"] == 8
    assert result["windows"] == 8
    assert result["audio_s"] == pytest.approx(4 * 1.0 + 4 * 1.25)
    assert result["ratio"] == pytest.approx(result["encoder_s"][0] / result["indexing_s"][0])
    assert 0 < result["ratio"] < 1
    assert "of the encoder's throughput" in table


def test_recorded_batches_do_not_change_with_the_waveforms():
    recorder = BatchRecorder(ToneEncoder())
    waveform = tone(440)
    recorder.encode_audio([waveform])
    waveform[:] = 0
    assert recorder.batches[0][0].any()


def test_throughput_is_compared_with_a_plain_implementation_of_equal_vectors(tmp_path):
    arguments = ("--clips", 2, "--texts", 3, "--rounds", 1, "--precision", "fp32", "--precision", "int8")
    table, result = run(tmp_path, "throughput", "--device", "cpu", *arguments)
    assert [facts["workload"] for facts in result["results"]] == ["1 s", "5 s", "10 s", "30 s", "1 to 10 s", "texts"]
    for facts in result["results"]:
        assert facts["items"] == (3 if facts["workload"] == "texts" else 2)
        assert facts["fp32"]["largest_difference"] < 1e-4
        assert facts["plain"]["ratio"] == 1.0
        assert facts["int8"]["lowest_cosine"] > 0.99
        assert facts["fp32"]["ratio"] == pytest.approx(facts["plain"]["seconds"][0] / facts["fp32"]["seconds"][0])
        assert facts["fp32"]["items_per_s"] == pytest.approx(facts["items"] / facts["fp32"]["seconds"][0])
    assert result["results"][2]["fp32"]["audio_s_per_s"] == pytest.approx(
        20 / result["results"][2]["fp32"]["seconds"][0]
    )
    assert result["arithmetic"]["flops_per_clip"] > 1e8
    assert "| 1 to 10 s, int8 |" in table


def test_search_latency_is_compared_with_lancedb(tmp_path):
    table, result = run(tmp_path, "search", "--rows", 500, "--dim", 16, "--queries", 10)
    assert {"exact search", "the same with probabilities", "LanceDB flat scan"} <= set(result["latency_ms"])
    assert all(0 < facts["p50"] <= facts["p95"] for facts in result["latency_ms"].values())
    assert "500 rows of 16" in table


def test_examples_are_selected_by_split_and_field(manifest):
    chosen = list(select(str(manifest), "test", []))
    assert all(text_split(example.text) == "test" for example in chosen)
    everything = list(select(str(manifest), "all", []))
    assert len(everything) == 13
    speech = list(select(str(manifest), "all", ["kind=speech", "language=de"]))
    assert [example.key for example in speech] == ["3-0.wav", "4-0.wav", "5-0.wav"]
    with pytest.raises(click.UsageError, match="FIELD one of"):
        list(select(str(manifest), "all", ["colour=red"]))


def test_a_vector_does_not_depend_on_the_other_clips(tmp_path):
    encoder = ToneEncoder()
    lengths = [0.3, 24.0, 1.0, 61.0, 2.0]
    examples = [
        Example(str(n), write_tone(tmp_path / f"{n}.wav", 300 * (n + 1), duration_s=length), "")
        for n, length in enumerate(lengths)
    ]
    embedded = embed_examples(encoder, examples)
    assert (embedded.examples, embedded.failures) == (examples, [])
    together = embedded.vectors
    for example, vector in zip(examples, together, strict=True):
        assert embed_examples(encoder, [example]).vectors[0] == pytest.approx(vector, abs=1e-6)
    short = encoder.encode_audio([tone(300, 0.3, SAMPLE_RATE)])[0]
    assert together[0] == pytest.approx(short, abs=1e-3)
    with pytest.raises(QueryError, match="no example"):
        embed_examples(encoder, [])


def test_texts_are_encoded_in_their_language():
    encoder = ToneEncoder()
    vectors = embed_texts(encoder, ["ein Hund", "a dog", "ein Haus"], ["de", "und", "de"])
    assert vectors[0] == pytest.approx(encoder.encode_text(["ein Hund"], "de")[0])
    assert vectors[1] == pytest.approx(encoder.encode_text(["a dog"])[0])
    assert vectors[2] == pytest.approx(encoder.encode_text(["ein Haus"], "de")[0])


@pytest.mark.slow
def test_training_is_measured_in_pairs_and_relative_to_matmul(tmp_path):
    arguments = ("--preset", "clara-v2-tiny", "--seconds", 1, "--batch", 4, "--batch", 8, "--chunk", 3, "--steps", 2)
    table, result = run(tmp_path, "training", "--device", "cpu", *arguments)
    assert [facts["pairs"] for facts in result["results"]] == [4, 8]
    for facts in result["results"]:
        median = float(np.median(facts["seconds"]))
        assert facts["pairs_per_s"] == pytest.approx(facts["pairs"] / median)
        rate = facts["pairs_per_s"] * result["flops_of_a_pair"]
        assert facts["share"] == pytest.approx(rate / result["matmul_flops_per_s"])
    assert "clara-v2-tiny, clips of 1 s, fp32" in table
