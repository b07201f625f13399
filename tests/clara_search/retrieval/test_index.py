"""Search against a sort of every row, by text, by sound and by vector; what others commit is seen at once."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import clara_search
from clara_search.audio.decode import load_audio
from clara_search.audio.windows import crop, window_spans
from clara_search.errors import AudioError, DatabaseError, EncoderMismatch, QueryError, UnknownModel
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.ann.registry import BACKENDS
from clara_search.retrieval.exact import scan as exact
from clara_search.retrieval.index import Index
from clara_search.store.database import Database
from indexer.pipeline import index as index_corpus
from tests.helpers import DIM, SAMPLE_RATE, ToneEncoder, tone, write_tone
from tests.tables import INFO, rows, table_of, unit_vectors


def slow_search(query, vectors, ids, k):
    """Sort all rows by cosine, equal ones by id."""
    scores = [round(float(np.dot(query.astype(np.float64), vector)), 6) for vector in vectors]
    return sorted(zip(scores, ids, strict=True), key=lambda hit: (-hit[0], hit[1]))[:k]


def assert_same_hits(hits, expected):
    assert [hit.score for hit in hits] == pytest.approx([score for score, _ in expected], abs=2e-6)
    assert [hit.id for hit in hits] == [identity for _, identity in expected]


@pytest.mark.parametrize("k", [1, 10, 200, 500])
def test_exact_search_agrees_with_sorting_every_row(database, k):
    vectors = unit_vectors(200)
    index = Index(table_of(database, vectors))
    ids = [f"{number:06d}" for number in range(200)]
    queries = unit_vectors(7, seed=1)
    for query, hits in zip(queries, index.search_vectors(queries, k), strict=True):
        assert_same_hits(hits, slow_search(query, vectors, ids, k))
        assert [hit.rank for hit in hits] == list(range(1, min(k, 200) + 1))


def test_many_queries_in_blocks_find_what_each_finds_alone(database, monkeypatch):
    index = Index(table_of(database, unit_vectors(60)))
    queries = unit_vectors(20, seed=1)
    alone = [index.search_vectors(query[np.newaxis], 5)[0] for query in queries]
    monkeypatch.setattr(exact, "_MAX_SCORES_PER_BLOCK", 150)  # two queries a block
    for together, single in zip(index.search_vectors(queries, 5), alone, strict=True):
        assert_same_hits(together, [(hit.score, hit.id) for hit in single])


@pytest.mark.parametrize("cores", [1, 2, 4, 7])
def test_a_query_finds_the_same_on_any_number_of_cores(database, monkeypatch, cores):
    vectors = unit_vectors(997)
    index = Index(table_of(database, vectors))
    monkeypatch.setattr(exact, "_SIZE_PER_THREAD", 160)  # ten rows
    monkeypatch.setattr(exact, "_cores", lambda: cores)
    query = unit_vectors(1, seed=1)
    ids = [f"{number:06d}" for number in range(997)]
    assert_same_hits(index.search_vectors(query, 10)[0], slow_search(query[0], vectors, ids, 10))


@pytest.mark.parametrize("n", [1, 63, 64, 65, 700, 5000])
@pytest.mark.parametrize("k", [1, 3, 70])
@pytest.mark.parametrize("levels", [None, 3, 1])
def test_the_best_scores_are_those_of_a_sort(n, k, levels):
    generator = np.random.default_rng(n + k)
    scores = (generator.normal(size=n) if levels is None else generator.integers(0, levels, n)).astype(np.float32)
    least = np.sort(scores)[::-1][min(k, n) - 1]
    assert exact.best_scores(scores, k).tolist() == np.flatnonzero(scores >= least - exact.TIE).tolist()


def test_equal_scores_stand_in_order_of_id(database):
    vectors = np.repeat(unit_vectors(1), 30, axis=0)
    ids = [f"{number * 7 % 30:06d}" for number in range(30)]
    index = Index(table_of(database, vectors, ids=ids))
    hits = index.search_vectors(vectors[:1], 12)[0]
    assert [hit.id for hit in hits] == sorted(ids)[:12]


@pytest.mark.parametrize("backend", [None, *BACKENDS])
@pytest.mark.parametrize("dim", [DIM, 37])
def test_equal_vectors_stand_in_order_of_id_in_exact_and_approximate_search(database, backend, dim):
    generator = np.random.default_rng(3)
    groups = unit_vectors(30, dim=dim)
    vectors = np.repeat(groups, 40, axis=0)[generator.permutation(1200)]
    ids = [f"{number:06d}" for number in generator.permutation(1200)]
    table = table_of(database, vectors, info=replace(INFO, dim=dim), ids=ids)
    if backend:
        ann.build(table, backend, target_recall=0.9)
        table.upsert(rows(vectors[:300], ids=ids[:300]))  # now searched exactly beside the index
    index = Index(table)
    queries = groups + 0.1 * unit_vectors(30, dim=dim, seed=1)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    few, more, exact = (
        index.search_vectors(queries, k, exact=is_exact) for k, is_exact in [(5, False), (10, False), (40, True)]
    )
    for query, five, ten, forty in zip(queries, few, more, exact, strict=True):
        expected = slow_search(query, vectors, ids, 40)
        assert [hit.id for hit in forty] == [identity for _, identity in expected]
        assert [(hit.id, hit.score) for hit in forty[:10]] == [(hit.id, hit.score) for hit in ten]
        assert ten[:5] == five
        assert index.search_vectors(query[np.newaxis], 10) == [ten]


def test_a_text_and_a_recording_find_themselves(tmp_path, database, recordings, encoder):
    texts = tmp_path / "captions.txt"
    texts.write_text("a dog barks\nrain on a roof\n", encoding="utf-8")
    index_corpus([recordings, texts], database, encoder)
    index = clara_search.open(database.path, encoder=encoder)
    best = index.search("rain on a roof", k=1)[0]
    assert (best.kind, best.text) == ("text", "rain on a roof")
    assert best.score == pytest.approx(1.0, abs=1e-5)
    for recording in recordings.rglob("*.*"):
        for audio in (recording, str(recording), recording.read_bytes(), load_audio(recording, SAMPLE_RATE)):
            hit = index.search(audio=audio, k=1)[0]
            assert hit.uri == str(recording)
            assert hit.score == pytest.approx(1.0, abs=1e-5)


def test_a_long_recording_asks_with_the_mean_of_its_windows(database, encoder):
    index = Index(table_of(database, unit_vectors(5)), encoder=encoder)
    waveform = np.concatenate([tone(200, 1.2), tone(3000, 1.0)])
    parts = [
        crop(waveform, w, SAMPLE_RATE) for w in window_spans(len(waveform) / SAMPLE_RATE, INFO.window_s, INFO.hop_s)
    ]
    assert len(parts) == 4
    mean = np.mean([encoder.encode_audio([part])[0] for part in parts], axis=0)
    assert index.embed_audio(waveform) == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_filters_keep_only_rows_that_pass(database):
    vectors = unit_vectors(90)
    kinds = ["audio", "text", "audio"] * 30
    languages = [("en", "de", "es")[number // 3 % 3] for number in range(90)]
    index = Index(table_of(database, vectors, kind=kinds, language=languages))
    query = unit_vectors(1, seed=1)
    for modality, where, keep in [
        ("text", None, lambda n: kinds[n] == "text"),
        (None, "language = 'de'", lambda n: languages[n] == "de"),
        ("audio", "language = 'de'", lambda n: kinds[n] == "audio" and languages[n] == "de"),
        ("audio", "language = 'xx'", lambda n: False),
    ]:
        expected_rows = [number for number in range(90) if keep(number)]
        expected = slow_search(query[0], vectors[expected_rows], [f"{number:06d}" for number in expected_rows], 10)
        assert_same_hits(index.search_vectors(query, 10, modality=modality, where=where)[0], expected)


def test_commits_of_others_are_seen_at_the_next_query(database):
    table = table_of(database, unit_vectors(20))
    index = Index(Database(database.path).table())
    query = unit_vectors(1, seed=9)
    assert index.search_vectors(query, 1)[0][0].score < 0.999
    table.upsert(rows(query, ids=["new"]))
    assert index.search_vectors(query, 1)[0][0].id == "new"
    table.upsert(rows(-query, ids=["new"]))
    assert index.search_vectors(query, 21)[0][-1].id == "new"
    table.delete_ids(["new"])
    assert "new" not in [hit.id for hit in index.search_vectors(query, 30)[0]]


def test_an_empty_table_has_no_hits(database, encoder):
    database.create_table("corpus", INFO)
    index = Index(database.table(), encoder=encoder)
    assert index.search("anything") == []
    assert index.search("anything", modality="audio", where="language = 'en'") == []


def test_further_columns_stand_beside_the_others(database):
    vectors = unit_vectors(2)
    table = database.create_table("corpus", INFO)
    table.upsert(rows(vectors).append_column("label", [["dog", None]]).append_column("year", [[2020, 2021]]))
    hit = Index(table).search_vectors(vectors[:1], 1)[0][0]
    assert hit.extra == {"label": "dog", "year": 2020}
    flat = hit.as_dict()
    core = ["rank", "id", "score", "probability", "is_significant", "kind", "uri", "start_s", "end_s", "best_s", "text"]
    core.append("language")
    assert list(flat) == [*core, "label", "year"]
    assert json.loads(json.dumps(flat)) == flat


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query_is_refused(database, encoder, query):
    index = Index(table_of(database, unit_vectors(2)), encoder=encoder)
    with pytest.raises(QueryError, match="empty"):
        index.search(query)


def test_bad_queries_say_what_is_wrong(tmp_path, database, encoder):
    index = Index(table_of(database, unit_vectors(2)), encoder=encoder)
    with pytest.raises(QueryError, match="give at least one"):
        index.search()
    for k in (0, -1, True, 2.5, "3"):
        with pytest.raises(QueryError, match="at least 1"):
            index.search("dog", k=k)
    with pytest.raises(QueryError, match="loudness"):
        index.search("dog", where="loudness > 3")
    with pytest.raises(QueryError, match="vectors of 16 numbers"):
        index.search_vectors(unit_vectors(1, dim=8))
    with pytest.raises(QueryError, match="not finite"):
        index.search_vectors(np.full((1, DIM), np.nan, np.float32))
    with pytest.raises(QueryError, match="waveform"):
        index.search(audio=np.zeros(0, np.float32))
    with pytest.raises(AudioError, match=r"nothing\.wav"):
        index.search(audio=tmp_path / "nothing.wav")


def test_another_encoder_and_a_missing_database_are_refused(tmp_path, database):
    table_of(database, unit_vectors(2))
    with pytest.raises(EncoderMismatch, match="built by tone"):
        clara_search.open(database.path, encoder=ToneEncoder("2"))
    with pytest.raises(DatabaseError, match="no database"):
        clara_search.open(tmp_path / "nowhere")
    with pytest.raises(DatabaseError, match="no table 'sfx'"):
        clara_search.open(database.path, table="sfx")
    with pytest.raises(UnknownModel, match="name a model that you trust as `model`"):
        clara_search.open(database.path).search("the model of this table has no home")


def test_a_vector_is_searched_without_loading_a_model(database):
    table_of(database, unit_vectors(3))
    hits = clara_search.open(database.path).search_vectors(unit_vectors(1), k=1)
    assert hits[0][0].id == "000000"


def test_classify_names_rows_and_recordings_by_the_nearest_prompt(tmp_path, database, encoder):
    names = ["low", "high"]
    classes = {name: encoder.encode_text([f"a {name} tone"])[0] for name in names}
    vectors = np.stack([classes["low"], classes["high"], classes["low"]])
    index = Index(table_of(database, vectors, kind=["audio", "audio", "text"]), encoder=encoder)
    items = list(index.classify(names, ["a {} tone"]))
    assert [(item.uri, item.label) for item in items] == [("/sounds/000000.wav", "low"), ("/sounds/000001.wav", "high")]
    cosine = float(classes["low"] @ classes["high"])
    assert items[0].scores == pytest.approx({"low": 1.0, "high": cosine}, abs=1e-5)
    assert items[0].score == items[0].scores["low"]
    assert [item.label for item in index.classify(names, where="id = '000001'")] == ["high"]
    path = write_tone(tmp_path / "long.wav", 440, duration_s=2.0)
    spans = [(item.start_s, item.end_s) for item in index.classify(names, audio=path)]
    assert spans == [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)]
    assert {item.uri for item in index.classify(names, audio=path)} == {str(path)}
