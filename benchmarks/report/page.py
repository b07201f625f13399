"""Runs as Markdown, and as one HTML page that needs nothing else: its figures are SVG, its sounds are in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np

from benchmarks.report.figures import bar_chart, category_chart, line_chart, matrix
from benchmarks.report.output import markdown
from benchmarks.report.query_results import clips_file
from benchmarks.report.runs import Rows, StoredRun, comparisons, overview, scores, warnings
from clara_search.errors import FormatError
from clara_search.files.json_reader import parse_json

_RULE_OF_TESTS = (
    "Differences are paired by query: a bootstrap over queries gives the interval, a permutation test in which each "
    "query's two scores are swapped at random gives p. No correction is made for the number of comparisons, and "
    "captions of one recording are taken for independent."
)
_WORST = 10
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 1100px; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
td, th { border-bottom: 1px solid #8885; padding: .25rem .6rem; text-align: left; vertical-align: top }
td { font-variant-numeric: tabular-nums }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; max-width: 100%; overflow-x: auto }
figcaption { font-weight: 600 }
svg text { font-size: 11px; fill: currentColor } svg text.small { font-size: 9px }
.axis { stroke: currentColor; fill: none } .grid { stroke: #8884; fill: none }
.legend span { margin-right: 1rem; font-size: 13px }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .3em }
.warning { border-left: 4px solid #d4763b; padding-left: .8rem }
audio { height: 2rem; vertical-align: middle }
"""


def as_markdown(runs: Sequence[StoredRun]) -> str:
    """Return the report of runs as Markdown."""
    parts = ["# Benchmarks", *(f"> {line}" for line in warnings(runs)), markdown(*overview(runs)), "## Scores"]
    parts += [*(markdown(*table) for table in scores(runs)), "In percent.", *_rules(runs)]
    headings, rows = comparisons(runs)
    if rows:
        parts += ["## Comparisons", markdown(headings, rows), f"In percentage points. {_RULE_OF_TESTS}"]
    return "\n\n".join([*parts, "## Machines", *_machines(runs)]) + "\n"


def as_html(runs: Sequence[StoredRun]) -> str:
    """Return the report of runs as an HTML page with figures, and with the sounds of the worst queries.

    Raises:
        FormatError: the sounds of a run cannot be read.
    """
    parts = ["<h1>Benchmarks</h1>", *(f'<p class="warning">{escape(line)}</p>' for line in warnings(runs))]
    parts += [
        _table(*overview(runs)),
        "<h2>Scores</h2>",
        *(_table(*table) for table in scores(runs)),
        "<p>In percent.</p>",
    ]
    parts += [f"<p>{escape(rule)}</p>" for rule in _rules(runs)]
    headings, rows = comparisons(runs)
    if rows:
        parts += [
            "<h2>Comparisons</h2>",
            _table(headings, rows),
            f"<p>In percentage points. {escape(_RULE_OF_TESTS)}</p>",
        ]
    parts += ["<h2>Figures</h2>", *_shared_figures(runs)]
    for run in runs:
        parts += [f"<h2>{escape(run.name)}</h2>", *_figures(run), *_worst(run), *_sounds(run)]
    parts += ["<h2>Machines</h2>", *(f"<p>{escape(line)}</p>" for line in _machines(runs))]
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Benchmarks</title>'
    head = f"<head>{meta}<style>{_STYLE}</style></head>"
    return f'<!doctype html><html lang="en">{head}<body>{"".join(parts)}</body></html>\n'


def _rules(runs: Sequence[StoredRun]) -> list[str]:
    return list(dict.fromkeys(str(run.facts["rules"]) for run in runs if "rules" in run.facts))


def _machines(runs: Sequence[StoredRun]) -> list[str]:
    lines = []
    for run in runs:
        facts = {
            **run.facts.get("machine", {}),
            **{f"{k} s": f"{v:.1f}" for k, v in run.facts.get("seconds", {}).items()},
        }
        lines.append(f"{run.name}: " + ", ".join(f"{name} {value}" for name, value in facts.items()) + ".")
    return lines


def _table(headings: Sequence[str], rows: Rows) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _ranked(run: StoredRun, group: str) -> list[int]:
    return [result.rank for result in run.queries if result.group == group and result.rank]


def _shared_figures(runs: Sequence[StoredRun]) -> list[str]:
    """Return the recall curves of all runs, a figure for each direction."""
    figures = []
    for direction in ("text to audio", "audio to text"):
        lines = {}
        for run in runs:
            ranks = np.sort(_ranked(run, f"all, {direction}"))
            if len(ranks):
                steps = np.unique(np.geomspace(1, max(ranks[-1], 10), 60).astype(int))
                lines[run.name] = [(float(k), float(np.searchsorted(ranks, k, "right")) / len(ranks)) for k in steps]
        if lines:
            figures.append(line_chart(f"Recall@k, {direction}", lines, "k", "recall"))
    return figures


def _figures(run: StoredRun) -> list[str]:
    figures = []
    for direction in ("text to audio", "audio to text"):
        if ranks := _ranked(run, f"all, {direction}"):
            edges = [0, *range(1, 11), 20, 50, 100, 1000, max(max(ranks), 1000) + 1]
            shares = (np.histogram(ranks, np.array(edges) + 0.5)[0] / len(ranks)).tolist()
            names = [*map(str, range(1, 11)), "to 20", "to 50", "to 100", "to 1000", "more"]
            title = f"Rank of the first right item, {direction}"
            figures.append(category_chart(title, names, shares, "rank"))
    if "cosines" in run.facts:
        cosines = run.facts["cosines"]
        bars = {name: cosines[name] for name in ("matches", "others")}
        figures.append(bar_chart("Cosines of texts and recordings", cosines["edges"], bars, "cosine"))
    if "confusion" in run.facts:
        confusion = run.facts["confusion"]
        figures.append(matrix("Confusion: true by row, predicted by column", confusion["labels"], confusion["counts"]))
    return figures


def _worst(run: StoredRun) -> list[str]:
    """Return a table of the queries that were answered worst."""
    ranked = sorted((x for x in run.queries if x.group == "all, text to audio"), key=lambda x: -x.rank)[:_WORST]
    if ranked:
        rows = [[x.query, str(x.rank), f"{100 * x.measures['mAP@10']:.1f}"] for x in ranked]
        return ["<h3>Worst queries</h3>", _table(["text", "rank", "AP@10, %"], rows)]
    mistakes = Counter((x.expected, x.found) for x in run.queries if x.expected != x.found)
    if not mistakes:
        return []
    rows = [[expected, found, str(count)] for (expected, found), count in mistakes.most_common(_WORST)]
    return ["<h3>Most frequent mistakes</h3>", _table(["label", "taken for", "recordings"], rows)]


def _sounds(run: StoredRun) -> list[str]:
    path = clips_file(run.path)
    if not path.exists():
        return []
    parts = ["<h3>Worst queries to listen to</h3>"]
    try:
        for entry in parse_json(path.read_bytes(), path):
            parts.append(f"<p><b>{escape(str(entry['query']))}</b></p>")
            for recording in entry["recordings"]:
                source = escape(f"data:audio/ogg;base64,{recording['ogg']}")
                parts.append(
                    f'<p><audio controls preload="none" src="{source}"></audio> {escape(str(recording["title"]))}</p>'
                )
    except (KeyError, TypeError) as error:
        raise FormatError(f"{path}: holds no recordings of queries ({error!r})") from error
    return parts if len(parts) > 1 else []
