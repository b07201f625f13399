"""Queries for what is in the demo's corpus and for what is not: which are answered, and how right probabilities are.

`present.csv` paraphrases 200 texts of the corpus lightly, by hand: articles, word order, tenses and polite words were
changed, names of sounds put into a phrase ("Sheep": "a sheep bleating"); 20 are left as they are but for case and
punctuation. `absent.csv` has 200 sounds, sentences and topics, 32 in Spanish, French, German and Italian, that no
recording of the corpus has.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.demo.corpus import prepare
from benchmarks.demo.run import FOLDER, build_index
from benchmarks.examples import model_option
from benchmarks.report import markdown, out_option, publish
from clara_search.classification.calibration import calibration_error
from clara_search.models.registry import load_encoder
from clara_search.retrieval.index import Index
from clara_search.text.normalize import normalize_text

HERE = Path(__file__).parent
HITS = 10
THRESHOLDS = (0.02, 0.1, 0.3, 0.5)


class Answer(NamedTuple):
    """The hits of a query: their probabilities, whether each is right, and whether one is significant."""

    probabilities: list[float]
    is_right: list[bool]
    is_answered: bool


@click.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER,
    show_default=True,
    help="Keeps the demo's corpus and index.",
)
@model_option
@out_option
def answering(folder: Path, model: str, out: Path | None) -> None:
    """Measure how many queries with and without a match are answered, on the demo's corpus.

    A query is answered if one of its ten hits is significant. The table is calibrated twice: as it is, and without its
    texts, as a folder of recordings is.
    """
    encoder = load_encoder(model)
    index = build_index([corpus.manifest for corpus in prepare(folder, click.echo)], folder / "database", encoder)
    absent, present = read_queries("absent.csv"), read_queries("present.csv")
    known = {normalize_text(text or "") for text in index.table.scan(["text"])["text"].to_pylist()}
    present = [query for query in present if normalize_text(query["text"]) in known]
    bare = without_texts(index, folder / "database-without-texts")
    result: dict[str, Any] = {"benchmark": "answering", "model": model, "rows": len(index)}
    rows = []
    for name, searched, texts in (("with its texts", index, None), ("without texts", bare, texts_by_uri(index))):
        measured = measure(ask(searched, present, texts), ask(searched, absent, texts))
        result[name] = measured
        rows.append([name, *(f"{measured[key]:.3f}" for key in COLUMNS)])
    result["queries"] = {"present": len(present), "absent": len(absent)}
    publish(result, markdown(["table", *COLUMNS.values()], rows), out)


COLUMNS = {
    "answered_present": "present answered",
    "answered_right": "of them right in 10",
    "answered_absent": "absent answered",
    "calibration_error": "ECE, all hits",
    "calibration_error_best": "ECE, best hits",
    "at_ten_percent": "present at 10 % of absent",
}


def read_queries(name: str) -> list[dict[str, str]]:
    """Return the queries of a list of this folder."""
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def texts_by_uri(index: Index) -> dict[str, str]:
    """Return the text of each recording."""
    rows = index.table.scan(["uri", "text"]).to_pylist()
    return {row["uri"]: row["text"] or "" for row in rows}


def without_texts(index: Index, folder: Path) -> Index:
    """Return a copy of an index whose rows have no texts."""
    import pyarrow as pa

    from clara_search.store.database import Database

    database = Database(folder, create=True)
    if index.table.name not in database.table_names():
        rows = index.table.scan(index.table.schema.names)
        place = rows.schema.get_field_index("text")
        bare = rows.set_column(place, "text", pa.nulls(len(rows), pa.string()))
        table = database.create_table(index.table.name, index.table.info, extra_fields(rows))
        table.upsert(bare)
    return Index(database.table(index.table.name), encoder=index.encoder)


def extra_fields(rows: Any) -> list[Any]:
    """Return the further columns of a table."""
    from clara_search.store.schema import CORE_COLUMNS

    return [field for field in rows.schema if field.name not in CORE_COLUMNS]


def ask(index: Index, queries: Iterable[dict[str, str]], texts: dict[str, str] | None) -> list[Answer]:
    """Search for each query; right are recordings of its `text`, from `texts` by uri where the table has none."""
    answers = []
    for query in tqdm(list(queries), unit=" queries", disable=None):
        hits = index.search(query["query"], language=query["language"], k=HITS)
        wanted = normalize_text(query.get("text") or "")
        found = [normalize_text((texts[hit.uri] if texts else hit.text) or "") for hit in hits]
        answers.append(
            Answer(
                [hit.probability or 0.0 for hit in hits],
                [bool(wanted) and text == wanted for text in found],
                any(hit.is_significant for hit in hits),
            )
        )
    return answers


def measure(present: Sequence[Answer], absent: Sequence[Answer]) -> dict[str, Any]:
    """Return the shares of answered queries, the calibration errors, and the shares at fixed probabilities."""
    best = {name: np.array([max(a.probabilities) for a in some]) for name, some in (("p", present), ("a", absent))}
    everything = [*present, *absent]
    probabilities = np.array([answer.probabilities for answer in everything])
    right = np.array([answer.is_right for answer in everything])
    return {
        "answered_present": _share(answer.is_answered for answer in present),
        "answered_right": _share(answer.is_answered and any(answer.is_right) for answer in present),
        "answered_absent": _share(answer.is_answered for answer in absent),
        "calibration_error": calibration_error(probabilities.ravel(), right.ravel()),
        "calibration_error_best": calibration_error(probabilities[:, 0], right[:, 0]),
        "at_ten_percent": float((best["p"] > np.quantile(best["a"], 0.9)).mean()),
        "at_probability": {
            str(threshold): {
                "present": float((best["p"] >= threshold).mean()),
                "absent": float((best["a"] >= threshold).mean()),
            }
            for threshold in THRESHOLDS
        },
        "reliability": reliability(probabilities.ravel(), right.ravel()),
    }


def reliability(probabilities: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> list[dict[str, float]]:
    """Return number, mean probability and share of right hits for each tenth of probability that has hits."""
    bins = np.minimum((probabilities * 10).astype(int), 9)
    return [
        {
            "hits": int((bins == b).sum()),
            "probability": float(probabilities[bins == b].mean()),
            "right": float(right[bins == b].mean()),
        }
        for b in np.unique(bins)
    ]


def _share(values: Iterable[bool]) -> float:
    return float(np.mean(list(values)))
