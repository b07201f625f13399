"""What people search by: texts, recordings, rows, vectors, several of each, added, taken away, and bad ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clara_search.errors import QueryError
from clara_search.models.recorded import RecordedModel
from clara_search.retrieval.index import Index
from clara_search.retrieval.queries.combine import parse_weighted
from tests.helpers import DIM, SAMPLE_RATE, tone, write_tone
from tests.tables import INFO, table_of, unit_vectors

OTHER = replace(INFO, model=RecordedModel("other", "f" * 64))


@pytest.fixture
def index(database, encoder):
    return Index(table_of(database, unit_vectors(40)), encoder=encoder)


def ids(hits):
    return [hit.id for hit in hits]


def unit(vector):
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def test_several_queries_have_an_answer_each(index):
    texts = ["a dog", "rain", "a dog"]
    several = index.search(texts, k=3)
    assert several == [index.search(text, k=3) for text in texts]
    assert [hits.query.label for hits in several] == texts
    assert index.search(iter(texts), k=3) == several
    assert index.search(["rain"], k=3) == several[1:2]
    assert index.search([]) == []
    tones = [tone(200), tone(4000)]
    assert index.search(audio=tones, k=2) == [index.search(audio=each, k=2) for each in tones]
    assert index.search("rain", audio=tones, k=2) == [index.search("rain", audio=each, k=2) for each in tones]
    assert index.search(id=["000003", "000005"], k=2) == [index.search(id=each, k=2) for each in ("000003", "000005")]
    with pytest.raises(QueryError, match="side by side"):
        index.search(texts, audio=tones)


def test_parts_of_a_query_are_added_with_their_weights(index, encoder):
    dog, rain, cat = encoder.encode_text(["a dog", "rain", "cat"])
    sound = encoder.encode_audio([tone(300)])[0]

    def found(vector):
        return ids(index.search_vectors(unit(vector)[np.newaxis], 40)[0])

    assert ids(index.search("a dog", plus=["rain:0.5"], minus=("cat", 2.0), k=40)) == found(dog + 0.5 * rain - 2 * cat)
    assert ids(index.search("a dog", audio=(tone(300), SAMPLE_RATE), k=40)) == found(dog + sound)
    assert ids(index.search(plus=["a dog", "rain"], k=40)) == found(dog + rain)
    assert index.search("a dog", minus="rain").query.label == "a dog | -1 rain"
    for bad in ({"minus": "dog"}, {"query": "a dog", "minus": "a dog"}, {"query": "a dog", "plus": [("rain", -1)]}):
        with pytest.raises(QueryError, match=r"at least one|cancel|above 0"):
            index.search(**bad)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("rain:0.5", ("rain", 0.5)),
        ("rain :.25", ("rain", 0.25)),
        ("channel: 5", ("channel: 5", 1.0)),
        ("at 10:30", ("at 10:30", 1.0)),
        ("5:05", ("5:05", 1.0)),
        ("a:b", ("a:b", 1.0)),
        ("4:3:1", ("4:3", 1.0)),
        (("4:3", 2), ("4:3", 2.0)),
    ],
)
def test_a_weight_stands_behind_the_last_colon(part, expected):
    assert parse_weighted(part) == expected


def test_more_like_a_row_leaves_the_row_out(index):
    hits = index.search(id="000007", k=39)
    vectors = unit_vectors(40)
    expected = np.argsort(-(vectors @ vectors[7]))
    assert ids(hits) == [f"{number:06d}" for number in expected if number != 7]
    assert [hit.rank for hit in hits] == list(range(1, 40))
    with pytest.raises(QueryError, match="no row of the id 'nothing'"):
        index.search(id="nothing")


def test_an_offset_continues_the_list(index):
    everything = index.search("rain", k=40)
    assert index.search("rain", k=7, offset=5) == everything[5:12]
    assert [hit.rank for hit in index.search("rain", k=2, offset=5)] == [6, 7]
    assert index.search("rain", offset=40) == []
    with pytest.raises(QueryError, match="offset must be a whole number"):
        index.search("rain", offset=-1)


def test_a_row_is_read_by_its_id_and_rows_are_counted(index):
    hit = index.get("000004")
    assert (hit.id, hit.score, hit.uri, hit.text) == ("000004", 1.0, "/sounds/000004.wav", "text 000004")
    assert (len(index), index.count("id < '000010'")) == (40, 10)
    assert index.columns == ["id", "kind", "uri", "start_s", "end_s", "text", "language", "content_hash"]
    with pytest.raises(QueryError, match="no row"):
        index.get("")


@pytest.mark.parametrize(
    "form",
    [
        lambda v: v,
        lambda v: v * 10,
        lambda v: v * 1e-3,
        lambda v: v.astype(np.float64),
        lambda v: torch.from_numpy(v),
        lambda v: torch.from_numpy(v).requires_grad_(),
        lambda v: v.tolist(),
    ],
)
def test_a_vector_of_any_length_and_type_is_a_direction(index, form):
    vectors = unit_vectors(3, seed=5)
    expected = index.search_vectors(vectors, 5)
    for hits, right in zip(index.search_vectors(form(vectors), 5), expected, strict=True):
        assert ids(hits) == ids(right)
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in right], abs=2e-6)
        assert all(-1 <= hit.score <= 1 for hit in hits)
    assert ids(index.search(vector=form(vectors)[0], k=5)) == ids(expected[0])


@pytest.mark.parametrize("k", [np.int64(3), np.uint8(3), 3])
def test_the_number_of_hits_may_be_any_whole_number(index, k):
    assert len(index.search_vectors(unit_vectors(1), k)[0]) == 3


BAD_VECTORS = {
    "not finite": np.full((1, DIM), np.inf),
    "finite": np.full((1, DIM), 1e300),
    "is zero": np.zeros((1, DIM), np.float32),
    "vectors of 16 numbers": np.ones((1, 3), np.float32),
    r"got \(16,\)": np.ones(DIM, np.float32),
    "real numbers: its type is complex128": np.ones((1, DIM), complex),
    "its type is <U1": np.array([["a"] * DIM]),
    "its type is object": np.full((1, DIM), None),
    "no array of numbers": [[1.0] * DIM, [1.0]],
}


@pytest.mark.parametrize("reason", BAD_VECTORS)
def test_a_vector_that_cannot_be_searched_by_is_refused(index, reason):
    with pytest.raises(QueryError, match=reason):
        index.search_vectors(BAD_VECTORS[reason])


def test_a_waveform_is_the_same_in_every_form(tmp_path, index):
    waveform = tone(700)
    expected = index.search(audio=waveform, sample_rate=SAMPLE_RATE)
    fast = tone(700, sample_rate=48_000)
    for audio, rate in [
        (waveform, None),
        ((waveform, SAMPLE_RATE), None),
        ({"array": waveform.astype(np.float64), "sampling_rate": SAMPLE_RATE, "path": None}, None),
        (torch.from_numpy(waveform)[None], SAMPLE_RATE),
        ((fast, 48_000), None),
        ((np.round(fast * 32768).astype(np.int16), np.int64(48_000)), None),
        (write_tone(tmp_path / "tone.wav", 700), None),
    ]:
        hits = index.search(audio=audio, sample_rate=rate)
        assert ids(hits) == ids(expected)
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=2e-3)
    assert expected.query.warnings == ()
    assumption = "the waveform is taken for one of 16000 Hz; give `sample_rate` if it is not"
    assert index.search(audio=waveform).notes[0] == assumption


@pytest.mark.parametrize(
    ("audio", "rate", "reason"),
    [
        (np.zeros((2, 100), np.float32), 16_000, "average its channels"),
        (np.array([0.0, np.nan]), 16_000, "not finite"),
        (np.zeros(100, np.uint8), 16_000, "no known scale"),
        (tone(100), 0, "sample rate must be"),
        (tone(100), "fast", "sample rate must be"),
        ((tone(100), 16_000), 16_000, "leave `sample_rate` out"),
        (b"RIFF", 16_000, "states its own sample rate"),
        ((tone(100),), None, "pair of waveform and sample rate"),
        (3, None, "waveform"),
    ],
)
def test_a_waveform_that_cannot_be_searched_by_is_refused(index, audio, rate, reason):
    with pytest.raises(QueryError, match=reason):
        index.search(audio=audio, sample_rate=rate)


def test_silence_and_a_short_recording_are_said_to_be_so(tmp_path, index):
    assert "silent" in index.search(audio=(np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)).notes[0]
    assert "lasts 0.050 s" in index.search(audio=write_tone(tmp_path / "short.wav", 440, duration_s=0.05)).notes[0]
    assert "10000 words" in index.search("word " * 10_000).notes[0]
    assert index.search("🐕 \0 barks", k=1).query.warnings == ()


@pytest.mark.parametrize("text", ["", " \n", "\0", "\0 \0", 3, b"dog"])
def test_a_text_that_says_nothing_is_refused(index, text):
    with pytest.raises(QueryError, match=r"empty|text is expected"):
        index.search(text)


def test_a_language_is_refused_by_a_model_that_knows_none(index, encoder):
    assert index.search("rain", language="de") != index.search("rain", language=None)
    encoder.takes_language = False
    assert index.search("rain", language="und")  # not known, which any model may be told
    with pytest.raises(QueryError, match="does not distinguish languages"):
        index.search("rain", language="de")
