"""Labels in tables: their columns, what stays as it was, batches, and what `index` makes of them later."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from clara_search.classification.classifier import ZeroShotClassifier
from clara_search.classification.neighbours import NeighbourClassifier
from clara_search.errors import DatabaseError, EncoderMismatch, QueryError
from clara_search.retrieval import classifying
from clara_search.retrieval.index import Index
from clara_search.retrieval.labels.examples import read_examples
from indexer.pipeline import index as index_corpus
from tests.helpers import DIM, ToneEncoder, write_tone
from tests.tables import INFO, rows, table_of, unit_vectors

LABELS = ["minus", "plus"]
CLASSES = np.stack([-np.eye(DIM)[0], np.eye(DIM)[0]]).astype(np.float32)


def signs(vectors):
    return ["plus" if vector[0] >= 0 else "minus" for vector in vectors]


def softmax_of(vectors):
    return 1 / (1 + np.exp(-2 * np.abs(np.asarray(vectors)[:, 0])))


def read(table, *columns, where=None):
    found = table.scan(list(dict.fromkeys(["id", *columns])), where).sort_by("id")
    return [found[name].to_pylist() for name in columns]


def spoil(table, id_):
    """Store a vector of NaN, which other programs can."""
    nan = ", ".join(["cast('NaN' as float)"] * DIM)
    vector = f"arrow_cast(make_array({nan}), 'FixedSizeList({DIM}, Float32)')"
    table.alter(lambda lance: lance.update(where=f"id = '{id_}'", values_sql={"vector": vector}))


@pytest.fixture
def classifier():
    return ZeroShotClassifier(LABELS, CLASSES, temperature=1.0)


def test_labels_and_probabilities_are_columns_and_all_else_stays(database, classifier):
    vectors = unit_vectors(50)
    kinds = ["text" if number % 10 == 9 else "audio" for number in range(50)]
    table = table_of(database, vectors, kind=kinds)
    names = [name for name in table.schema.names if name != "vector"]
    before, ids = read(table, *names, "vector"), table.row_ids()
    written = Index(table).write_labels(classifier, "guess")
    table = database.table()
    assert read(table, *names, "vector") == before
    assert set(table.row_ids()) == set(ids)
    assert [table.schema.field(name).type for name in ("guess", "guess_probability")] == [pa.string(), pa.float64()]
    labels, probabilities = read(table, "guess", "guess_probability")
    is_audio = [kind == "audio" for kind in kinds]
    assert labels == [label if use else None for label, use in zip(signs(vectors), is_audio, strict=True)]
    assert [x for x in probabilities if x is not None] == pytest.approx(softmax_of(vectors[is_audio]), abs=2e-6)
    assert (written.rows, written.unlabelled, written.changed) == (45, 0, 0)
    assert sum(written.labels.values()) == 45
    assert table.count("guess = 'plus' AND guess_probability > 0.5") == written.labels["plus"]


def test_a_second_time_replaces_labels_and_a_filter_leaves_the_others(database, classifier):
    vectors = unit_vectors(20)
    index = Index(table_of(database, vectors))
    index.write_labels(classifier, "guess")
    opposite = ZeroShotClassifier(LABELS[::-1], CLASSES, temperature=1.0)
    assert index.write_labels(opposite, "guess", where="id < '000010'").rows == 10
    (labels,) = read(database.table(), "guess")
    assert labels == signs(-vectors[:10]) + signs(vectors[10:])
    unsure = classifier.with_threshold(1.0)
    assert index.write_labels(unsure, "guess").unlabelled == 20
    labels, probabilities = read(database.table(), "guess", "guess_probability")
    assert labels == [None] * 20
    assert probabilities == pytest.approx(softmax_of(vectors), abs=2e-6)


def test_cosines_have_no_probability_and_a_dry_run_changes_nothing(database):
    table = table_of(database, unit_vectors(5))
    index, plain = Index(table), ZeroShotClassifier(LABELS, CLASSES)
    version = table.version
    assert index.write_labels(plain, "guess", dry_run=True).rows == 5
    assert database.table().version == version
    index.write_labels(plain, "guess")
    assert read(database.table(), "guess_probability") == [[None] * 5]


def test_a_label_that_no_file_can_hold_is_written_as_far_as_it_can_be(database):
    vectors = unit_vectors(5)
    labels = ["\ud83d{}", "a, 'b' \x1b[31m\x00"]
    Index(table_of(database, vectors)).write_labels(ZeroShotClassifier(labels, CLASSES), "guess")
    stored = {"minus": "?{}", "plus": labels[1]}
    assert read(database.table(), "guess") == [[stored[sign] for sign in signs(vectors)]]


def test_several_labels_are_lists_and_examples_again(database):
    vectors = unit_vectors(6)
    examples = table_of(database, vectors, name="known", tags=pa.array([["a"], ["a", "b"], [], None, ["b"], ["a"]]))
    table = table_of(database, vectors[:3])
    known = Index(examples, encoder=ToneEncoder())
    index = Index(table, encoder=ToneEncoder())
    several = index.neighbour_classifier("tags", 1, multi_label=True, examples=known)
    assert len(several.examples.labels) == 5
    several = NeighbourClassifier(several.examples, 1, is_multi_label=True)
    index.write_labels(several, "guess")
    table = database.table()
    assert table.schema.field("guess").type == pa.list_(pa.string())
    labels, probabilities = read(table, "guess", "guess_probability")
    assert len(labels) == 3
    assert [len(some) for some in labels] == [len(some) for some in probabilities]
    assert read_examples([table], "guess", multi_label=True).labels == [tuple(some) for some in labels]
    with pytest.raises(QueryError, match="holds lists"):
        index.neighbour_classifier("tags", examples=known)
    with pytest.raises(QueryError, match="something else"):
        index.write_labels(ZeroShotClassifier(LABELS, CLASSES), "guess")


@pytest.mark.parametrize(
    "name",
    ["id", "Vector", "text", "score", "rank", "probability", "best_s", "path", "_x", "a.b", "a`b", "", " ", "a\nb",
     "x" * 201, "clara_cast_to_x", "mine", "MINE", "half"],
)  # fmt: skip
def test_names_of_others_are_refused_before_anything_is_written(database, classifier, name):
    texts = pa.array(["my own", "words"])
    table = table_of(database, unit_vectors(2), mine=texts, half_probability=texts)
    version = table.version
    with pytest.raises(QueryError):
        Index(table).write_labels(classifier, name)
    assert database.table().version == version


def test_a_batch_is_a_commit_and_what_was_written_before_a_failure_stays(database, classifier, monkeypatch):
    vectors = unit_vectors(25)
    index = Index(table_of(database, vectors))
    monkeypatch.setattr(classifying, "_ROWS_PER_COMMIT", 10)
    done = []

    def fail_after_two(count):
        done.append((count, database.table().count("guess IS NOT NULL")))
        if len(done) == 2:
            raise DatabaseError("the disk is full")

    with pytest.raises(DatabaseError):
        index.write_labels(classifier, "guess", progress=fail_after_two)
    assert done == [(10, 10), (10, 20)]
    assert index.write_labels(classifier, "guess").rows == 25
    assert read(database.table(), "guess") == [signs(vectors)]


def test_a_row_that_changes_or_goes_meanwhile_keeps_what_it_has(database, classifier):
    vectors = unit_vectors(4)
    table = table_of(database, vectors)

    class Slow(ZeroShotClassifier):
        def score(self, vectors, texts):
            table.delete_ids(["000001"])
            table.upsert(rows(unit_vectors(1, seed=5), ids=["000002"]))
            return super().score(vectors, texts)

    written = Index(table).write_labels(Slow(LABELS, CLASSES, temperature=1.0), "guess")
    assert (written.rows, written.changed) == (4, 2)
    ids, labels = read(database.table(), "id", "guess")
    assert (ids, labels) == (["000000", "000002", "000003"], [signs(vectors)[0], None, signs(vectors)[3]])


def test_a_row_whose_vector_is_not_finite_has_no_label_and_the_others_have(database, classifier):
    vectors = unit_vectors(3)
    table = table_of(database, vectors)
    spoil(table, "000001")
    written = Index(table).write_labels(classifier, "guess")
    assert (written.rows, written.unlabelled, written.changed) == (3, 1, 0)
    assert read(database.table(), "guess") == [[signs(vectors)[0], None, signs(vectors)[2]]]


def test_index_keeps_labels_of_unchanged_recordings_and_forgets_those_of_changed_ones(database, encoder, recordings):
    index_corpus(recordings, database, encoder, retain_days=0)
    index = Index(database.table(), encoder=encoder)
    index.write_labels(index.prompt_classifier(["dog", "rain"]), "guess")
    (labels,) = read(database.table(), "guess", where="uri LIKE '%low.wav' OR uri LIKE '%middle.flac'")
    again = index_corpus(recordings, database, encoder)
    assert (again.unchanged, again.indexed) == (3, 0)
    assert read(database.table(), "guess", where="uri LIKE '%low.wav' OR uri LIKE '%middle.flac'") == [labels]
    write_tone(recordings / "low.wav", 3000)
    assert index_corpus(recordings, database, encoder).indexed == 1
    assert read(database.table(), "guess", where="uri LIKE '%low.wav'") == [[None]]
    assert database.table().count("guess IS NOT NULL") == 2
    (recordings / "middle.flac").rename(recordings / "moved.flac")
    assert index_corpus(recordings, database, encoder).reused == 1
    assert database.table().count("guess IS NOT NULL AND uri LIKE '%moved.flac'") == 1


def test_examples_are_of_the_same_encoder_and_of_a_column_with_labels(database, encoder):
    vectors = unit_vectors(4)
    labels = {"text": ["a", " b ", "", "c"], "whole": [1, 2, None, 3], "truth": [True, False, None, True]}
    table = table_of(database, vectors, species=labels["text"], whole=labels["whole"], truth=labels["truth"])
    spoil(table, "000003")
    found = {column: read_examples([table], column).labels for column in ("species", "whole", "truth")}
    assert found == {"species": [("a",), ("b",)], "whole": [("1",), ("2",)], "truth": [("true",), ("false",)]}
    assert read_examples([table], "species").uris == ["/sounds/000000.wav", "/sounds/000001.wav"]
    other = table_of(database, unit_vectors(2), name="other", info=INFO.of(ToneEncoder("2"), 1.0, 0.5))
    with pytest.raises(EncoderMismatch):
        Index(table, encoder=encoder).neighbour_classifier("language", examples=Index(other))
