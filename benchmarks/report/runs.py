"""Runs as their JSON files hold them, their tables, and the comparison of runs over the same data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report.query_results import QueryResult, read_queries
from benchmarks.report.run_facts import contamination_remark
from clara_search.errors import FormatError
from clara_search.files.json_reader import read_json
from clara_search.metrics.comparison import paired_difference
from clara_search.metrics.retrieval import MAP_CUTOFFS

REPORTED = ("retrieval", "zero-shot")
Rows = list[list[str]]


@dataclass(frozen=True)
class StoredRun:
    """A run of a benchmark.

    Attributes:
        path: its JSON file.
        name: what it is called in a report, different from the other runs' names.
        facts: the content of the file.
        queries: results of its queries.
    """

    path: Path
    name: str
    facts: dict[str, Any]
    queries: list[QueryResult]


def read_runs(paths: Sequence[Path]) -> list[StoredRun]:
    """Return the runs in JSON files.

    Raises:
        FormatError: a file is no record of a retrieval or zero-shot run.
    """
    runs: list[StoredRun] = []
    for path in paths:
        facts = read_json(path)
        missing = [key for key in ("model", "fingerprint", "data", "data_fingerprint", "scores") if key not in facts]
        if facts.get("benchmark") not in REPORTED or missing:
            lacking = f" (it lacks {', '.join(missing)})" if missing else ""
            raise FormatError(f"{path}: is no record of a run of {' or '.join(REPORTED)} with --out{lacking}")
        name = f"{facts['model']} on {Path(str(facts['data'])).name}"
        if any(run.name == name for run in runs):
            name = f"{name} ({path.stem})"
        runs.append(StoredRun(path, name, facts, read_queries(path)))
    return runs


def overview(runs: Sequence[StoredRun]) -> tuple[list[str], Rows]:
    """Return headings and rows that say what each run measured."""
    headings = ["run", "model", "data", "split", "clips", "captions", "precision", "remarks"]
    rows = []
    for run in runs:
        facts = run.facts
        remarks = [] if facts.get("complete", True) else [f"INCOMPLETE: {len(facts['failures'])} missing"]
        remarks.append(contamination_remark(facts["contamination"]))
        rows.append(
            [
                run.name,
                f"{facts['model']} {facts['fingerprint'][:12]}",
                f"{facts['data']} {facts['data_fingerprint'][:12]}",
                str(facts.get("split", "all")),
                str(facts["clips"]),
                str(facts.get("captions", "-")),
                str(facts["encoder"]["precision"]),
                "; ".join(remarks),
            ]
        )
    return headings, rows


def scores(runs: Sequence[StoredRun]) -> list[tuple[list[str], Rows]]:
    """Return headings and rows of all scores, in percent with intervals: of retrieval, and of classification."""
    retrieval: Rows = []
    classification: Rows = []
    names: list[str] = []
    for run in runs:
        if run.facts["benchmark"] == "zero-shot":
            x = run.facts["scores"]
            shares = (f"{100 * share:.1f}" for share in (x["chance"], run.facts["majority"]))
            classification.append([run.name, str(x["n"]), _percent(x["accuracy"], x["interval"]), *shares])
            continue
        for group, x in _groups(run):
            measured = {f"R@{k}": (x["recall"][k], x["recall_interval"][k], x["chance_recall"][k]) for k in x["recall"]}
            measured |= {f"mAP@{k}": (x[f"map{k}"], x[f"map{k}_interval"], x[f"chance_map{k}"]) for k in MAP_CUTOFFS}
            names = [*measured]
            cells = [f"{_percent(value, ends)} ({100 * chance:.2f})" for value, ends, chance in measured.values()]
            retrieval.append(
                [run.name, group, f"{x['n_queries']} in {x['n_gallery']}", *cells, f"{x['median_rank']:g}"]
            )
    tables = [
        (
            [
                "run",
                "queries",
                "number in gallery",
                *(f"{name} [95 % interval] (chance)" for name in names),
                "median rank",
            ],
            retrieval,
        ),
        (["run", "recordings", "accuracy [95 % interval]", "chance", "majority"], classification),
    ]
    return [(headings, rows) for headings, rows in tables if rows]


def comparisons(runs: Sequence[StoredRun]) -> tuple[list[str], Rows]:
    """Return headings and rows that compare each run with the first one over the same data, query by query."""
    headings = ["run", "compared with", "queries", "number", "measure", "difference [95 % interval]", "p"]
    rows: Rows = []
    for number, run in enumerate(runs):
        first = next((other for other in runs[:number] if _same_data(other, run)), None)
        if first is None:
            continue
        before = {(result.group, result.query): result for result in first.queries}
        pairs: dict[str, list[tuple[QueryResult, QueryResult]]] = {}
        for result in run.queries:
            if (result.group, result.query) in before:
                pairs.setdefault(result.group, []).append((before[result.group, result.query], result))
        for group, both in pairs.items():
            for measure in both[0][1].measures:
                scored = [(old.measures[measure], new.measures[measure]) for old, new in both]
                found = paired_difference([old for old, _ in scored], [new for _, new in scored])
                cell = _percent(found.difference, found.interval, signed=True)
                p = f"{found.p_value:.4f}" if found.p_value > 1e-4 else "< 0.0001"
                rows.append([run.name, first.name, group, str(found.n), measure, cell, p])
    return headings, rows


def warnings(runs: Sequence[StoredRun]) -> Iterator[str]:
    """Yield what a reader could take for the same and is not."""
    for number, run in enumerate(runs):
        for other in runs[:number]:
            if Path(str(run.facts["data"])).name != Path(str(other.facts["data"])).name:
                continue
            if run.facts["data_fingerprint"] != other.facts["data_fingerprint"]:
                contents = ", ".join(x.facts["data_fingerprint"][:12] for x in (other, run))
                yield (
                    f"{other.name} and {run.name} have data of one name and of different content ({contents}): they "
                    "are not compared"
                )


def _same_data(one: StoredRun, other: StoredRun) -> bool:
    return all(one.facts[key] == other.facts[key] for key in ("benchmark", "data_fingerprint"))


def _groups(run: StoredRun) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, directions in run.facts["scores"].items():
        for direction, x in directions.items():
            yield f"{name}, {direction.replace('_', ' ')}", x


def _percent(value: float, interval: Sequence[float], signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.1f} [{100 * interval[0]:{sign}.1f}, {100 * interval[1]:{sign}.1f}]"
