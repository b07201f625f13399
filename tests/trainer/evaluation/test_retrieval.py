"""Retrieval by several captions: in rows and in lists alike, and shared between recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clara_search.datasets.example import Example
from clara_search.datasets.readers import read_examples
from clara_search.errors import FormatError
from clara_search.models.base import Embeddings
from trainer.evaluation.retrieval import score_pairs

CLIPS, CAPTIONS = 30, 5


class PerfectEncoder:
    """An encoder that knows the clip of each caption, "caption K of clip N"."""

    name, fingerprint, dim, sample_rate = "perfect", "0", CLIPS, 16000

    def encode_text(self, texts: list[str], language: str | None = None) -> Embeddings:
        return np.eye(CLIPS, dtype=np.float32)[[int(text.split()[-1]) for text in texts]]


def manifest(folder: Path, way: str) -> Path:
    captions = {n: [f"caption {k} of clip {n}" for k in range(CAPTIONS)] for n in range(CLIPS)}
    if way == "list":
        lines = [json.dumps({"path": f"{n}.wav", "text": texts}) for n, texts in captions.items()]
        (folder / "m.jsonl").write_text("\n".join(lines) + "\n")
        return folder / "m.jsonl"
    rows = [(n, texts[k]) for k in range(CAPTIONS) for n, texts in captions.items()]
    rows = sorted(rows) if way == "rows" else rows
    (folder / "m.csv").write_text("path,caption\n" + "".join(f"{n}.wav,{text}\n" for n, text in rows))
    return folder / "m.csv"


@pytest.mark.parametrize("way", ["rows", "scattered rows", "list"])
def test_perfect_vectors_of_several_captions_score_one(way: str, tmp_path: Path) -> None:
    examples = list(read_examples(manifest(tmp_path, way)))
    assert [len((x.text, *x.alternatives)) for x in examples] == [CAPTIONS] * CLIPS
    audio = np.eye(CLIPS, dtype=np.float32)[[int(Path(x.key).stem) for x in examples]]
    scores = score_pairs(PerfectEncoder(), examples, audio)["all"]  # type: ignore[arg-type]
    to_audio, to_text = scores["text_to_audio"], scores["audio_to_text"]
    assert (to_audio.recall[1], to_audio.n_queries, to_audio.n_gallery) == (1.0, CLIPS * CAPTIONS, CLIPS)
    assert (to_text.recall[1], to_text.map10, to_text.n_queries) == (1.0, 1.0, CLIPS)


def test_a_caption_that_two_recordings_share_finds_either() -> None:
    examples = [
        Example("a", b"", "clip 0", alternatives=("both of clip 0",)),
        Example("b", b"", "clip 1", alternatives=("Both of clip 0!",)),
    ]
    audio = np.eye(2, CLIPS, dtype=np.float32)
    scores = score_pairs(PerfectEncoder(), examples, audio)["all"]  # type: ignore[arg-type]
    assert scores["text_to_audio"].n_queries == 3
    assert scores["text_to_audio"].recall[1] == 1.0
    assert scores["audio_to_text"].recall[1] == pytest.approx(1.0)


def test_copies_of_a_recording_have_each_others_captions() -> None:
    examples = [Example("a", b"", "clip 0"), Example("b", b"", "again clip 0"), Example("c", b"", "clip 1")]
    audio = np.eye(3, CLIPS, dtype=np.float32)[[0, 0, 1]]
    encoder = PerfectEncoder()
    scores = score_pairs(encoder, examples, audio, ["x", "x", "y"])["all"]  # type: ignore[arg-type]
    assert scores["text_to_audio"].recall[1] == scores["audio_to_text"].map10 == 1.0
    apart = score_pairs(encoder, examples, audio)["all"]  # type: ignore[arg-type]
    assert apart["text_to_audio"].recall[1] == pytest.approx(1 / 3)  # the copy ties, and counts as wrong


def test_vectors_that_are_not_finite_are_named() -> None:
    examples = [Example("a.wav", b"", "clip 0"), Example("b.wav", b"", "clip 1")]
    audio = np.eye(2, CLIPS, dtype=np.float32)
    audio[1, 3] = np.nan
    with pytest.raises(FormatError, match=r"the vectors of 1 recordings are not finite, .*: 'b.wav'"):
        score_pairs(PerfectEncoder(), examples, audio)  # type: ignore[arg-type]
