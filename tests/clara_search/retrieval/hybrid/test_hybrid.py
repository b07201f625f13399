"""Hybrid search against a slow fusion of two sorted lists; words in any script; rows that come, change and go."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from clara_search.commands.main import main
from clara_search.errors import DatabaseError, QueryError
from clara_search.retrieval.hybrid.evidence import said_second
from clara_search.retrieval.index import Index
from clara_search.store.words import index as word_index
from clara_search.store.words.tokens import query_words
from clara_search.store.words.verify import verify_words
from tests.helpers import ToneEncoder
from tests.tables import INFO, rows, unit_vectors

VOCABULARY = [f"w{number}" for number in range(30)]


def with_texts(table, texts):
    return table.set_column(table.schema.get_field_index("text"), "text", [texts])


def corpus(database, texts, name="corpus", seed=0, **columns):
    table = database.create_table(name, INFO)
    table.upsert(with_texts(rows(unit_vectors(len(texts), seed=seed), **columns), texts))
    return Index(table, encoder=ToneEncoder())


def random_texts(count, seed=0):
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(VOCABULARY, generator.integers(1, 12))) for _ in range(count)]


def bm25(query, texts, k1=1.2, b=0.75):
    """The score of each text by the formula of Robertson and Spaerck Jones."""
    documents = [text.split() for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = np.zeros(len(texts))
    for word in dict.fromkeys(query.split()):
        containing = sum(word in document for document in documents)
        idf = math.log((len(documents) - containing + 0.5) / (containing + 0.5) + 1)
        for number, document in enumerate(documents):
            count = document.count(word)
            scores[number] += idf * count * (k1 + 1) / (count + k1 * (1 - b + b * len(document) / mean))
    return scores.round(4)


def slow_fusion(query, texts, vectors, weight):
    """Ids by the sum of both reciprocal ranks, equal ones by cosine and id."""
    cosines = (vectors.astype(np.float64) @ ToneEncoder().encode_text([query])[0].astype(np.float64)).round(6)
    scores = bm25(query, texts)
    by_vector = sorted(range(len(texts)), key=lambda row: (-cosines[row], row))
    levels = sorted(set(scores[scores > 0]), reverse=True)
    relevance = []
    for row in range(len(texts)):
        by_words = 61 / (61 + levels.index(scores[row])) if scores[row] > 0 else 0.0
        relevance.append(round((1 - weight) * 61 / (61 + by_vector.index(row)) + weight * by_words, 9))
    order = sorted(range(len(texts)), key=lambda row: (-relevance[row], -cosines[row], row))
    return [f"{row:06d}" for row in order if weight < 1 or scores[row] > 0]


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("query", ["w3", "w1 w2 w3", "w7 nothing", "nothing"])
def test_both_rankings_are_fused_as_a_slow_sum_of_reciprocal_ranks_says(database, weight, query):
    texts = random_texts(120)
    index = corpus(database, texts)
    expected = slow_fusion(query, texts, unit_vectors(120), weight)
    whole = index.search(query, k=200, text_weight=weight)
    assert [hit.id for hit in whole] == expected
    pages = [index.search(query, k=20, offset=start, text_weight=weight) for start in range(0, 120, 20)]
    assert [hit.id for page in pages for hit in page] == expected


def test_a_hit_says_which_part_found_it_and_keeps_its_cosine(database):
    index = corpus(database, ["the quick brown fox", "a lazy dog", "fox and dog", None])
    plain = {hit.id: hit for hit in index.search("Fox dog", k=9)}
    hits = index.search("Fox dog", k=9, hybrid=True)
    words = {"000000": ["fox"], "000001": ["dog"], "000002": ["fox", "dog"], "000003": []}
    assert {hit.id: hit.words for hit in hits} == words
    assert {hit.id: hit.text_rank is None for hit in hits} == {hit.id: hit.id == "000003" for hit in hits}
    assert {hit.id: hit.score for hit in hits} == {name: hit.score for name, hit in plain.items()}
    assert sorted(hit.vector_rank for hit in hits) == [1, 2, 3, 4]
    assert all(hit.relevance is None and hit.words is None for hit in plain.values())
    assert "relevance" not in plain["000000"].as_dict()
    assert "found by" in repr(hits)
    (best,) = (hit for hit in hits if hit.text_rank == 1)
    assert f"vector {best.vector_rank}, words 1" in hits._repr_html_()
    assert best.id == "000002"


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Der Zug FÄHRT ein", "fährt"),
        ("Der Zug fährt ein", "fahrt"),
        ("Café au lait", "CAFE"),
        ("nai\u0308ve Kunst", "naïve"),
        ("naïve Kunst", "nai\u0308ve"),
        ("東京都に行きます", "東京"),
        ("我喜欢在公园里听鸟叫", "公园"),
        ("สวัสดีครับ", "สวัสดี"),
        ("Привет, мир", "МИР"),
        ("елка", "ёлка"),
        ("안녕하세요 세계", "세계"),
        ("see foo_bar-baz.txt", "baz"),
        ("don't stop", "don't"),
        ("x\0y", "y"),
        ("a" * 60, "A" * 60),
    ],
)
def test_words_are_found_in_any_case_script_and_accent(database, text, query):
    index = corpus(database, [text, *random_texts(5)])
    assert [hit.id for hit in index.search(query, k=9, text_weight=1.0)] == ["000000"]


@pytest.mark.parametrize(
    "query",
    [
        '"w1 w2" AND (w3 OR',
        "w1*",
        "+w1 -w2",
        "text:w1^2~",
        "😀 w1",
        "w1\0w2",
        "!!! ...",
        "\\",
        " ".join(VOCABULARY * 400),
    ],
    ids=["quotes", "star", "signs", "field", "emoji", "nul", "no-words", "backslash", "12000-words"],
)
def test_a_query_is_data_whatever_it_holds(database, query):
    texts = random_texts(40)
    index = corpus(database, texts)
    found = {hit.id for hit in index.search(query, k=99, text_weight=1.0)}
    asked = {forms[0] for forms in query_words(query)}
    assert found == {f"{row:06d}" for row, text in enumerate(texts) if asked & set(text.split())}


def test_rows_that_come_change_and_go_are_found_as_they_are(database):
    index = corpus(database, random_texts(30))

    def found(word):
        return [hit.id for hit in index.search(word, k=99, text_weight=1.0)]

    assert found("heron") == []
    table = index.table
    later = rows(unit_vectors(3, seed=9), ids=["a", "b", "c"])
    table.upsert(with_texts(later, ["heron", "grey heron", "gull"]))
    assert found("heron") == ["a", "b"]
    assert word_index.unindexed_rows(table) == 3
    assert word_index.extend(table)
    assert not word_index.extend(table)
    assert found("heron") == ["a", "b"]
    table.upsert(with_texts(later.slice(0, 1), ["stork"]))
    table.delete_ids(["b"])
    assert found("heron") == []
    assert found("stork") == ["a"]
    table.compact(retain_days=0, purge=True)
    assert (found("heron"), found("stork"), found("gull")) == ([], ["a"], ["c"])


def test_filters_hold_for_rows_that_words_find(database):
    texts = ["heron"] * 50 + ["gull"] * 5
    index = corpus(database, texts, language=["de"] * 50 + ["en"] * 5)
    assert [hit.id for hit in index.search("heron gull", k=99, text_weight=1.0, where="language = 'en'")] == [
        *sorted((f"{row:06d}" for row in range(50, 55)), key=lambda name: cosine_order(index, "heron gull", name))
    ]
    assert index.search("heron", k=9, text_weight=1.0, where="language = 'en'") == []
    with pytest.raises(QueryError, match="text_weight must lie between 0 and 1, got 2"):
        index.search("heron", text_weight=2)


def cosine_order(index, query, name):
    return [hit.id for hit in index.search(query, k=99)].index(name)


def test_many_rows_that_match_equally_are_not_cut_at_random(database):
    index = corpus(database, ["heron"] * 1500 + ["heron heron"] * 3)
    hits = index.search("heron", k=1503, text_weight=1.0)
    assert [hit.text_rank for hit in hits] == [1] * 3 + [2] * 1500
    assert [hit.id for hit in hits[3:]] == sorted(
        (hit.id for hit in hits[3:]), key={hit.id: (-hit.score, hit.id) for hit in hits}.__getitem__
    )


def test_several_tables_are_ranked_as_one(database):
    texts = random_texts(60)
    first = corpus(database, texts[:30], "first", seed=1)
    second = corpus(database, texts[30:], "second", seed=2, ids=[f"{row:06d}" for row in range(30, 60)])
    both = Index([first.table, second.table], encoder=ToneEncoder())
    hits = both.search("w1 w2", k=60, hybrid=True)
    cosines = [hit.score for hit in sorted(hits, key=lambda hit: hit.vector_rank)]
    assert cosines == sorted(cosines, reverse=True)
    assert [hit.vector_rank for hit in sorted(hits, key=lambda hit: hit.vector_rank)] == list(range(1, 61))
    keys = [(-hit.relevance, -hit.score, hit.id) for hit in hits]
    assert keys == sorted(keys)
    assert [hit.rank for hit in hits] == list(range(1, 61))


def test_windows_of_one_caption_share_a_rank_and_are_one_hit(database):
    table = database.create_table("corpus", INFO)
    windows = with_texts(rows(unit_vectors(12)), ["a heron"] * 10 + ["one heron", "gull"])
    names = ["/long.wav"] * 10 + ["/short.wav", "/other.wav"]
    starts = [float(number) * 5 for number in range(10)] + [0.0, 0.0]
    for name, values in {"uri": names, "start_s": starts, "end_s": [start + 5 for start in starts]}.items():
        windows = windows.set_column(windows.schema.get_field_index(name), name, [values])
    table.upsert(windows)
    index = Index(table, encoder=ToneEncoder())
    assert {hit.text_rank for hit in index.search("heron", k=99, text_weight=1.0, per_recording=0)} == {1}
    assert sorted(hit.uri for hit in index.search("heron", k=99, text_weight=1.0)) == ["/long.wav", "/short.wav"]


def test_a_search_that_cannot_be_hybrid_says_why(database):
    mute = corpus(database, [None] * 3, "mute")
    with pytest.raises(QueryError, match=r"hybrid search needs texts, and no row of .*mute.* has one"):
        mute.search("heron", hybrid=True)
    index = corpus(database, ["heron"], "spoken")
    with pytest.raises(QueryError, match="hybrid search needs a text, whose words it looks up"):
        index.search(id="000000", hybrid=True)
    both = Index([mute.table, index.table], encoder=ToneEncoder())
    assert [hit.table for hit in both.search("heron", text_weight=1.0)] == ["spoken"]


def test_a_table_that_cannot_be_written_says_that_it_needs_a_word_index(database, monkeypatch):
    index = corpus(database, ["heron"])

    def refuse(table):
        raise DatabaseError("table 'corpus' cannot be written (Read-only file system)")

    monkeypatch.setattr(word_index, "build", refuse)
    with pytest.raises(
        DatabaseError, match="hybrid search needs a word index of table 'corpus', and none can be built"
    ):
        index.search("heron", hybrid=True)


def test_a_damaged_word_index_is_found_and_built_anew(database):
    index = corpus(database, random_texts(30))
    assert verify_words(index.table, repair=False).detail == "there is no word index"
    index.search("w1", hybrid=True)
    assert verify_words(index.table, repair=False).detail == "30 rows"
    shutil.rmtree(database.path / "corpus.lance" / "_indices")
    fresh = type(database)(database.location)
    assert not verify_words(fresh.table(), repair=False).ok
    repaired = verify_words(fresh.table(), repair=True)
    assert (repaired.ok, repaired.repaired) == (True, True)
    assert verify_words(type(database)(database.location).table(), repair=False).ok


def test_the_command_finds_by_words_alone(tmp_path, database, monkeypatch):
    corpus(database, ["a grey heron", *random_texts(5)])
    monkeypatch.setattr("clara_search.retrieval.opened.load_encoder", lambda *_, **__: ToneEncoder())
    command = ["search", "Heron", "--db", database.location, "--text-weight", "1", "--json"]
    result = CliRunner().invoke(main, command)
    (line,) = result.stdout.splitlines()
    hit = json.loads(line)
    assert (hit["id"], hit["text_rank"], hit["vector_rank"], hit["words"]) == ("000000", 1, None, ["heron"])
    table = CliRunner().invoke(main, ["search", "Heron", "--db", database.location, "--hybrid"]).stdout
    assert "found by" in table
    assert "words 1" in table


def spoken(text):
    return [{"word": f" {word}", "start_s": float(number)} for number, word in enumerate(text.split())]


@pytest.mark.parametrize(
    ("query", "text", "second"),
    [
        ("good morning", "morning all, a good Morning, and good evening", 3.0),
        ("good", "well good good", 1.0),
        ("don't stop", "please, don't stop", 1.0),
        ("nothing", "a b c", None),
        ("", "a b c", None),
    ],
)
def test_the_second_is_that_of_the_longest_run_of_words(query, text, second):
    assert said_second(query_words(query), spoken(text)) == second
