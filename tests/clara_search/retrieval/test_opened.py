"""Open tables: several as one, made anew by others, in threads, in forked and in other processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest

import clara_search
from clara_search.errors import EncoderMismatch
from clara_search.models.recorded import RecordedModel
from clara_search.retrieval import opened
from clara_search.retrieval.index import Index
from clara_search.store.database import Database
from tests.helpers import ROOT, ToneEncoder
from tests.tables import INFO, rows, table_of, unit_vectors

OTHER = replace(INFO, model=RecordedModel("other", "f" * 64))


def ids(hits):
    return [hit.id for hit in hits]


def test_several_tables_are_searched_as_one(tmp_path, encoder):
    vectors = unit_vectors(90)
    names = [f"{number:06d}" for number in range(90)]
    places = []
    for number, (db, table) in enumerate([("a", "corpus"), ("a", "sfx"), ("b", "corpus"), ("b", "sfx")]):
        database = Database(tmp_path / db, create=True)
        table_of(database, vectors[number::4], name=table, ids=names[number::4])
        places.append((database.location, table))
    whole = Index(table_of(Database(tmp_path / "c", create=True), vectors), encoder=encoder)
    parts = clara_search.open([tmp_path / "a", tmp_path / "b"], ["corpus", "sfx"], encoder=encoder)
    queries = unit_vectors(5, seed=1)
    for where in (None, "id < '000050'"):
        for found, right in zip(
            parts.search_vectors(queries, 10, offset=3, where=where),
            whole.search_vectors(queries, 10, offset=3, where=where),
            strict=True,
        ):
            assert [(hit.rank, hit.id, hit.score) for hit in found] == [(hit.rank, hit.id, hit.score) for hit in right]
            assert all((hit.db, hit.table) == places[int(hit.id) % 4] for hit in found)
    assert (len(parts), parts.get("000006").id) == (90, "000006")
    assert ids(parts.search(id="000006", k=5)) == ids(whole.search(id="000006", k=5))


def test_an_id_that_a_foreign_table_holds_twice_stands_for_its_first_row(tmp_path, encoder):
    table = table_of(Database(tmp_path / "a", create=True), unit_vectors(5))
    table.connection.lance.open_table("corpus").update(where="id = '000003'", values={"id": "000001"})
    index = clara_search.open(tmp_path / "a", encoder=encoder)
    assert index.get("000001").uri in ("/sounds/000001.wav", "/sounds/000003.wav")
    assert len(index.search(id="000001", k=2)) == 2


def test_tables_of_different_models_are_not_searched_together(tmp_path):
    table_of(Database(tmp_path / "a", create=True), unit_vectors(3))
    table_of(Database(tmp_path / "b", create=True), unit_vectors(3), info=OTHER)
    with pytest.raises(EncoderMismatch, match="built by different models"):
        clara_search.open([tmp_path / "a", tmp_path / "b"])


def test_a_table_that_is_made_anew_is_read_anew(database, encoder):
    index = Index(table_of(database, unit_vectors(20)), encoder=encoder)
    query = unit_vectors(1, seed=9)
    index.search_vectors(query)
    database.drop_table("corpus")
    table_of(database, np.concatenate([query, -query]), ids=["new", "far"])  # the same number of commits
    assert ids(index.search_vectors(query)[0]) == ["new", "far"]
    database.drop_table("corpus")
    table_of(database, unit_vectors(3), info=OTHER)
    with pytest.raises(EncoderMismatch, match="made anew with other"):
        index.search_vectors(query)


def test_a_few_rows_that_pass_are_read_alone_and_as_right(database):
    vectors = unit_vectors(400)
    index = Index(table_of(database, vectors))
    query = unit_vectors(1, seed=1)
    few = index.search_vectors(query, 10, where="id < '000012'")[0]
    assert not index._searchers[0].snapshot().has_vectors
    expected = sorted(range(12), key=lambda number: -float(vectors[number] @ query[0]))[:10]
    assert ids(few) == [f"{number:06d}" for number in expected]
    index.search_vectors(query)
    assert index._searchers[0].snapshot().has_vectors
    assert index.search_vectors(query, 10, where="id < '000012'")[0] == few


class CountedEncoder(ToneEncoder):
    loads = 0


def test_threads_share_one_encoder_and_get_right_answers(database, monkeypatch):
    vectors = unit_vectors(60)
    table = table_of(database, vectors)

    def load(*_, **__):
        CountedEncoder.loads += 1
        return CountedEncoder()

    monkeypatch.setattr(opened, "load_encoder", load)
    index = Index(table)

    def ask(number):
        if number % 10 == 0:
            table.upsert(rows(unit_vectors(1, seed=number + 1000), ids=[f"new{number:03d}"]))
        index.search("rain")
        return index.search_vectors(vectors[number : number + 1], 1)[0][0].id

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(60))) == [f"{number:06d}" for number in range(60)]
    assert CountedEncoder.loads == 1
    assert asyncio.run(asyncio.to_thread(index.search, "rain", k=1)) == index.search("rain", k=1)


FORKED = """
import os, pickle, sys
import numpy as np
import torch
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.index import Index
from clara_search.store.database import Database
from tests.helpers import ROOT, ToneEncoder
from tests.tables import table_of, unit_vectors


class TorchEncoder(ToneEncoder):
    def encode_text(self, texts, language=None):
        torch.ones(600, 600) @ torch.ones(600, 600)  # by several threads
        return super().encode_text(texts, language)


if __name__ == "__main__":
    torch.set_num_threads(2)
    vectors = unit_vectors(4000)
    table = table_of(Database(sys.argv[1], create=True), vectors)
    ann.build(table, "ivf")
    index = Index(table, encoder=TorchEncoder())

    def ask():
        return [[hit.id for hit in hits] for hits in index.search_vectors(vectors[:300], 3)], index.search("rain", k=1)

    expected = ask()
    children = []
    for _ in range(2):
        if not (child := os.fork()):
            os._exit(0 if ask() == expected else 1)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    index = pickle.loads(pickle.dumps(index))
    print(codes, ask() == expected)
"""


@pytest.mark.slow
def test_a_forked_process_and_a_pickled_index_answer_as_their_origin(tmp_path):
    script = tmp_path / "forked.py"
    script.write_text(FORKED, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, script, tmp_path / "db"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.stdout == "[0, 0] True\n", result.stderr


def _search_in_another_process(index):
    return index.search("rain", k=3)


@pytest.mark.slow
def test_an_index_goes_to_a_spawned_process(database, encoder):
    index = Index(table_of(database, unit_vectors(20)), encoder=encoder)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(_search_in_another_process, index).result(120) == index.search("rain", k=3)
