"""The result of each query of a run, kept beside the run's JSON: what paired comparisons and figures are made of."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clara_search.datasets.example import Example
from clara_search.datasets.recordings import load_recording
from clara_search.errors import FormatError
from clara_search.files.json_reader import parse_object
from clara_search.retrieval.output.playback import encode

_RATE, _SECONDS = 16_000, 10.0


@dataclass(frozen=True)
class QueryResult:
    """The result of one query.

    Attributes:
        group: the set of queries and the direction, such as "all, text to audio".
        query: the caption or the name of the recording, the same in every run over the data.
        measures: by name, such as "R@1".
        rank: rank of the best-ranked positive; 0 where there is none.
        expected: what was right, in words.
        found: what was ranked first, in words.
    """

    group: str
    query: str
    measures: dict[str, float]
    rank: int = 0
    expected: str = ""
    found: str = ""


def queries_file(run: Path) -> Path:
    """Return the file with the results of the queries of a run."""
    return run.with_suffix(".queries.jsonl")


def clips_file(run: Path) -> Path:
    """Return the file with the sounds of the worst queries of a run."""
    return run.with_suffix(".clips.json")


def write_queries(run: Path, results: Iterable[QueryResult]) -> None:
    """Write the results of the queries of a run, a line each."""
    run.parent.mkdir(parents=True, exist_ok=True)
    with queries_file(run).open("w", encoding="utf-8") as file:
        for result in results:
            file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")


def read_queries(run: Path) -> list[QueryResult]:
    """Return the results of the queries of a run, none where there is no file.

    Raises:
        FormatError: a line is broken.
    """
    path = queries_file(run)
    if not path.exists():
        return []
    results = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = parse_object(line, path)
            measures = {str(name): float(value) for name, value in row["measures"].items()}
            texts = (str(row.get(name, "")) for name in ("expected", "found"))
            results.append(QueryResult(str(row["group"]), str(row["query"]), measures, int(row["rank"]), *texts))
        except (FormatError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{path}, line {number}: is no result of a query ({error})") from error
    return results


def write_clips(run: Path, rows: Sequence[tuple[str, Sequence[tuple[str, Example]]]]) -> None:
    """Write recordings that a page plays, as Ogg of at most ten seconds.

    Args:
        run: the run's JSON.
        rows: queries, each with recordings and what they are.
    """
    sounds: list[dict[str, Any]] = []
    for query, recordings in rows:
        played = []
        for title, example in recordings:
            waveform = load_recording(example, _RATE)[: round(_SECONDS * _RATE)]
            played.append({"title": title, "ogg": base64.b64encode(encode(waveform, _RATE, "OGG")).decode()})
        sounds.append({"query": query, "recordings": played})
    clips_file(run).write_text(json.dumps(sounds, ensure_ascii=False) + "\n", encoding="utf-8")
