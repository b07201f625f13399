"""One hit a recording: neighbouring windows are one moment, k hits come whenever k recordings match, copies fold."""

from __future__ import annotations

import numpy as np
import pytest

from clara_search.errors import QueryError
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.index import Index
from tests.helpers import DIM
from tests.tables import INFO, rows, table_of, unit_vectors

WINDOW_S, HOP_S = 10.0, 5.0
QUERY = np.eye(DIM, dtype=np.float32)[0]


def scoring(scores, seed=0):
    """Unit vectors whose cosines with QUERY are `scores`."""
    scores = np.asarray(scores, dtype=np.float64)
    rest = np.random.default_rng(seed).normal(size=(len(scores), DIM - 1))
    rest *= np.sqrt(1 - scores**2)[:, None] / np.linalg.norm(rest, axis=1, keepdims=True)
    return np.concatenate([scores[:, None], rest], axis=1).astype(np.float32)


def corpus(database, recordings, order=None):
    """A table of recordings, each a list of the scores of its windows; `order` shuffles the rows."""
    scores, uris, starts, ends = [], [], [], []
    for number, windows in enumerate(recordings):
        scores += windows
        uris += [f"/sounds/{number:03d}.wav"] * len(windows)
        starts += [place * HOP_S for place in range(len(windows))]
        ends += [place * HOP_S + WINDOW_S for place in range(len(windows))]
    table = rows(scoring(scores), ids=[f"{uri[8:11]}-{start:05.0f}" for uri, start in zip(uris, starts, strict=True)])
    values = {"uri": uris, "start_s": starts, "end_s": ends, "content_hash": [f"content of {uri}" for uri in uris]}
    for name, column in values.items():
        table = table.set_column(table.schema.get_field_index(name), name, [column])
    if order is not None:
        table = table.take(np.random.default_rng(order).permutation(len(table)))
    made = database.create_table("corpus", INFO)
    made.upsert(table)
    return made


LONG = [0.05] * 34  # 3 minutes
CLIPS = [[0.60 - number / 100] for number in range(30)]


def long_among_clips(events):
    """A recording of three minutes among 30 clips of one window that score 0.60 ... 0.31."""
    long = list(LONG)
    for place, score in events.items():
        long[place] = score
    return [long, *CLIPS]


@pytest.fixture(params=["exact", "flat", "ivf", "filtered"])
def find(request):
    """Searches exactly, by an ANN index, and with a filter that every row passes: with the same result."""

    def search(table, k=10, **options):
        if request.param in ("flat", "ivf"):
            ann.build(table, request.param, target_recall=1.0)
        if request.param == "filtered":
            options["where"] = "end_s > 0"
        return Index(table).search_vectors(QUERY[None], k, **options)[0]

    return search


def spans(hits):
    return [(hit.uri[8:11], hit.start_s, hit.end_s) for hit in hits]


@pytest.mark.parametrize("order", [None, 1])
def test_a_long_recording_is_one_hit_and_its_neighbouring_windows_one_moment(database, find, order):
    hits = find(corpus(database, long_among_clips({11: 0.7, 12: 0.9, 13: 0.8, 14: 0.1, 30: 0.65}), order), k=5)
    assert spans(hits) == [("000", 55.0, 75.0), *((f"{n:03d}", 0.0, 10.0) for n in range(1, 5))]
    assert [hit.score for hit in hits] == pytest.approx([0.9, 0.60, 0.59, 0.58, 0.57], abs=1e-6)
    assert hits[0].id == "000-00060"  # the best window of the moment
    assert hits[0].best_s == pytest.approx(65.0, abs=1.5)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]


def test_as_many_hits_come_as_recordings_match_however_many_windows_stand_before_them(database, find):
    table = corpus(database, [[0.9] * 200, [0.8] * 100, *CLIPS])
    hits = find(table, k=20)
    assert spans(hits)[:2] == [("000", 0.0, 1005.0), ("001", 0.0, 505.0)]
    assert [hit.uri[8:11] for hit in hits] == [f"{number:03d}" for number in range(20)]
    assert len(find(table, k=32)) == len(find(table, k=500)) == 32


def test_further_moments_of_a_recording_are_hits_on_request(database, find):
    table = corpus(database, long_among_clips({2: 0.9, 3: 0.45, 4: 0.1, 20: 0.8, 21: 0.1, 30: 0.7}))
    assert spans(find(table, k=3, per_recording=2)) == [("000", 10.0, 20.0), ("000", 100.0, 110.0), ("001", 0.0, 10.0)]
    assert spans(find(table, k=3, per_recording=3))[2] == ("000", 150.0, 160.0)
    # Window 3 overlaps the first moment without belonging to it, and is no moment of its own.
    assert ("000", 15.0, 25.0) not in spans(find(table, k=50, per_recording=34))


def test_every_window_is_a_hit_on_request(database, find):
    table = corpus(database, long_among_clips({11: 0.7, 12: 0.9, 13: 0.8}))
    assert spans(find(table, k=4, per_recording=0)) == [
        ("000", 60.0, 70.0),
        ("000", 65.0, 75.0),
        ("000", 55.0, 65.0),
        ("001", 0.0, 10.0),
    ]


def test_the_first_hits_of_a_longer_answer_are_the_same(database, find):
    table = corpus(database, long_among_clips({5: 0.9, 6: 0.77, 7: 0.76, 8: 0.75, 9: 0.74}))
    short, long = find(table, k=2, per_recording=2), find(table, k=40, per_recording=2)
    assert spans(short) == spans(long)[:2]
    assert short[0].end_s == 55.0


def test_a_moment_holds_only_windows_that_pass_the_filter(database):
    table = corpus(database, long_among_clips({11: 0.85, 12: 0.9, 13: 0.8}))
    hits = Index(table).search_vectors(QUERY[None], 1, where="start_s >= 60")[0]
    assert spans(hits) == [("000", 60.0, 75.0)]


def test_texts_are_never_joined(database):
    table = table_of(database, scoring([0.9, 0.8, 0.7]), kind="text")
    hits = Index(table).search_vectors(QUERY[None], 3)[0]
    assert [hit.score for hit in hits] == pytest.approx([0.9, 0.8, 0.7], abs=1e-6)
    assert [hit.best_s for hit in hits] == [None] * 3


def test_copies_and_near_duplicates_fold_into_one_hit_that_counts_them(database, find):
    vectors = scoring([0.9, 0.8, 0.7, 0.6, 0.5])
    near = vectors[0] + 0.05 * unit_vectors(1, seed=3)[0]
    near /= np.linalg.norm(near)  # cosine 0.999 with the first
    table = rows(np.concatenate([vectors, near[None], vectors[1:2]]))
    hashes = table["content_hash"].to_pylist()
    table = table.set_column(table.schema.get_field_index("content_hash"), "content_hash", [[*hashes[:6], hashes[1]]])
    made = database.create_table("corpus", INFO)
    made.upsert(table)
    plain, folded = find(made, k=7), find(made, k=7, distinct=True)
    assert len(plain) == 7
    assert [hit.copies for hit in plain] == [None] * 7
    assert [(round(hit.score, 1), hit.copies) for hit in folded] == [(0.9, 2), (0.8, 2), (0.7, 1), (0.6, 1), (0.5, 1)]
    assert "copies" not in plain[0].as_dict()
    assert folded[0].as_dict()["copies"] == 2


def slow_mmr(vectors, scores, share, k):
    """Maximal marginal relevance as its paper writes it."""
    chosen = []
    while len(chosen) < k:
        values = {
            row: (1 - share) * scores[row] - share * max((float(vectors[row] @ vectors[c]) for c in chosen), default=0)
            for row in range(len(scores))
            if row not in chosen
        }
        chosen.append(max(values, key=lambda row: (round(values[row], 6), -row)))
    return chosen


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_diversity_orders_by_marginal_relevance_whatever_k(database, find, share):
    vectors = unit_vectors(150, clusters=8)
    table = table_of(database, vectors)
    ranked = find(table, k=150, per_recording=0)
    order = [int(hit.id) for hit in ranked]
    expected = slow_mmr(vectors[order], [hit.score for hit in ranked], share, 12)
    hits = find(table, k=12, diversity=share)
    assert [int(hit.id) for hit in hits] == [order[row] for row in expected]
    assert [hit.id for hit in find(table, k=4, diversity=share)] == [hit.id for hit in hits[:4]]


def test_bad_values_are_refused(database):
    index = Index(table_of(database, unit_vectors(3)))
    with pytest.raises(QueryError, match="per_recording must be at least 1, or 0 for every window, got -1"):
        index.search_vectors(QUERY[None], per_recording=-1)
    with pytest.raises(QueryError, match=r"diversity must lie between 0 and 1, got 1\.5"):
        index.search_vectors(QUERY[None], diversity=1.5)
