"""A table is calibrated once and again when it grows; what is stored can be lost, foreign or forged."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.calibration.trials import background_texts
from clara_search.retrieval.index import Index
from clara_search.retrieval.pipeline import NOTHING_MATCHES
from clara_search.store.database import Database
from tests.helpers import SAMPLE_RATE, ToneEncoder, tone
from tests.tables import rows, table_of, unit_vectors

DIM = 16
WORDS = [f"{first}{last}" for first in ("bark", "horn", "rain", "bell", "gong") for last in "abcdefghijklmnopqrstu"]


class NameEncoder:
    """Embeds "NAME" near the row of that name, and any other text somewhere."""

    name = ToneEncoder.name
    fingerprint = ToneEncoder().fingerprint
    dim = DIM
    sample_rate = SAMPLE_RATE

    def __init__(self):
        self.texts_encoded = 0

    def encode_text(self, texts, language=None):
        self.texts_encoded += len(texts)
        return np.stack([self._embed(text) for text in texts])

    def encode_audio(self, waveforms):
        return np.repeat(unit_vectors(len(WORDS))[7:8], len(waveforms), axis=0)

    def _embed(self, text):
        noise = unit_vectors(1, seed=int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]))[0]
        vector = unit_vectors(len(WORDS))[WORDS.index(text)] + 0.3 * noise if text in WORDS else noise
        return vector / np.linalg.norm(vector)


def named_table(database, count=None, **options):
    count = count or len(WORDS)
    vectors = unit_vectors(len(WORDS))[:count]
    table = rows(vectors, **options)
    text = [None] * count if options.get("text") == "-" else WORDS[:count]
    made = table_of(database, vectors[:0])
    made.upsert(table.set_column(table.schema.get_field_index("text"), "text", [text]))
    return made


def stored_file(table):
    return table.connection.path / "_calibration" / "corpus.json"


@pytest.mark.parametrize("texts", ["with", "-"])
def test_what_is_there_is_probable_and_for_what_is_not_the_answer_says_so(database, texts):
    index = Index(named_table(database, text=texts), encoder=NameEncoder())
    present = [index.search(word, k=5) for word in WORDS[::3]]
    assert np.mean([hits[0].is_significant and hits[0].probability > 0.5 for hits in present]) >= 0.9
    assert all(hits.notes == [] for hits in present if hits[0].is_significant)
    absent = [index.search(f"query {number} for something else", k=5) for number in range(100)]
    said = [hits.notes == [NOTHING_MATCHES] for hits in absent]
    assert said == [not any(hit.is_significant for hit in hits) for hits in absent]
    assert np.mean(said) >= 0.8
    assert all(len(hits) == 5 for hits in absent)  # marked, not hidden
    assert index.search(WORDS[0], k=5, min_probability=0.5)[0].text in (WORDS[0], None)
    assert list(index.search("query 1 for something else", k=5, min_probability=0.5)) == []


def test_exact_and_approximate_search_give_the_same_probabilities(database):
    table = named_table(database)
    index = Index(table, encoder=NameEncoder())
    expected = [index.search(word, k=5).to_dicts() for word in WORDS[:5]]
    ann.build(table, "ivf", target_recall=1.0)
    assert [index.search(word, k=5).to_dicts() for word in WORDS[:5]] == expected


def test_a_table_is_calibrated_once_and_again_when_it_has_grown(database):
    table = named_table(database, count=60)
    Index(table, encoder=NameEncoder()).search("anything")
    before = stored_file(table).read_bytes()
    encoder = NameEncoder()
    index = Index(Database(database.path).table(), encoder=encoder)
    index.search("anything")
    assert encoder.texts_encoded == 1
    named_table_rows = rows(unit_vectors(len(WORDS))[60:70], ids=[f"new{number}" for number in range(10)])
    table.upsert(named_table_rows)
    index.search("anything")
    assert encoder.texts_encoded == 2  # a sixth more is no reason
    table.upsert(rows(unit_vectors(len(WORDS))[70:90], ids=[f"more{number}" for number in range(20)]))
    index.search("anything")
    assert encoder.texts_encoded > 2 + len(background_texts())
    assert json.loads(stored_file(table).read_bytes())["num_rows"] == 90
    assert stored_file(table).read_bytes() != before


def test_a_table_that_is_made_anew_under_the_name_is_calibrated_anew(database):
    """Of the same size and model: probabilities of the old one would mislead."""
    old = Index(named_table(database), encoder=NameEncoder())
    old.search("anything")
    before = json.loads(stored_file(old.table).read_bytes())
    database.drop_table("corpus")
    vectors = unit_vectors(len(WORDS), seed=9)
    vectors[:, 0] += 2  # where all rows are alike, so are their cosines
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table_of(database, vectors, ids=[f"other{number}" for number in range(len(WORDS))])
    for index in (old, Index(Database(database.path).table(), encoder=NameEncoder())):
        index.search("anything")
        after = json.loads(stored_file(index.table).read_bytes())
        assert after["directions"] != before["directions"]
        assert all(name.startswith("other") for name in after["sample"])
        stored_file(index.table).write_text(json.dumps(before))


def tampered(change):
    def tamper(path):
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return tamper


def set_direction(**values):
    return tampered(lambda stored: stored["directions"]["text-audio"].update(values))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"[" * 10_000),
        lambda path: path.write_bytes(b'"' + b"x" * 100_000 + b'"'),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        tampered(lambda stored: stored.update(fingerprint="0" * 64)),
        tampered(lambda stored: stored.update(num_rows=10**9)),
        tampered(lambda stored: stored.update(format_version=1)),
        tampered(lambda stored: stored.update(further=1)),
        tampered(lambda stored: stored["directions"].update({"smell-audio": stored["directions"]["text-audio"]})),
        set_direction(null_spread=0.0),
        set_direction(null_spread=float("nan")),
        set_direction(null_mean=float("-inf")),
        set_direction(null_mean="0.3"),
        set_direction(threshold=0.0),
        set_direction(plain={"height": 1.0, "gap": 0.0, "text": 0.0, "bias": 9.0}),
        set_direction(texts=None),
    ],
)
def test_a_stored_calibration_that_is_broken_foreign_or_forged_is_made_anew(database, damage):
    table = named_table(database)
    expected = Index(table, encoder=NameEncoder()).search(WORDS[3]).to_dicts()
    right = stored_file(table).read_bytes()
    damage(stored_file(table))
    encoder = NameEncoder()
    assert Index(table, encoder=encoder).search(WORDS[3]).to_dicts() == expected
    assert encoder.texts_encoded > len(background_texts())
    assert stored_file(table).read_bytes() == right
    assert [path.name for path in stored_file(table).parent.iterdir()] == ["corpus.json"]


def test_a_calibration_is_neither_read_nor_written_through_a_link(database, tmp_path):
    table = named_table(database)
    outside = tmp_path / "outside"
    outside.mkdir()
    stored_file(table).parent.symlink_to(outside)
    hits = Index(table, encoder=NameEncoder()).search(WORDS[3])
    assert hits[0].is_significant
    assert list(outside.iterdir()) == []


def test_a_small_table_and_a_vector_have_no_probabilities(database):
    small = Index(named_table(database, count=31), encoder=NameEncoder())
    hits = small.search("anything")
    assert [(hit.probability, hit.is_significant) for hit in hits] == [(None, None)] * 10
    assert hits.notes == []
    assert small.search("anything", min_probability=0.1) == []
    assert not stored_file(small.table).exists()


def test_recordings_are_judged_by_recordings_of_the_table(database):
    table = named_table(database)
    index = Index(table, encoder=NameEncoder())
    hits = index.search(audio=tone(440), sample_rate=SAMPLE_RATE, k=5)
    assert hits[0].text == WORDS[7]
    assert hits[0].is_significant
    assert not any(hit.is_significant for hit in hits[3:])
    likes = index.search(id=hits[0].id, k=5)
    assert [hit.is_significant for hit in likes] == [False] * 5  # no two rows are alike
    assert likes.notes == [NOTHING_MATCHES]
