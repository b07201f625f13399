"""Hits as a table of text, as HTML with players, and as an Arrow table. Everything in a hit may be a stranger's."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from clara_search.errors import ClaraError
from clara_search.files.paths import is_remote
from clara_search.retrieval.output.playback import cut, encode
from clara_search.retrieval.output.text import format_found_by, format_probability, format_span, one_line, short_name

if TYPE_CHECKING:
    import pyarrow as pa

MAX_PLAYERS = 10
"""Players of one table of hits; the sound lies in the page."""

_PLAYER_RATE = 16_000
_PLAYER_SECONDS = 30.0
_PLAYER_FILE_BYTES = 1 << 28
_TEXT_WIDTH = 60
_REASON_WIDTH = 120


def format_hits(hits: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> str:
    """Return hits as a table of text, a line each, below their notes."""
    rows = [_headings(hits), *(_cells(hit) for hit in hits)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*map(one_line, notes), *(lines if hits else ["no hits"])])


def hits_html(hits: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> str:
    """Return hits as an HTML table, with players for recordings of this machine."""
    heading = "".join(f"<th>{name}</th>" for name in (*_headings(hits), "sound"))
    body, players = "", 0
    for hit in hits:
        player = _player(hit) if players < MAX_PLAYERS else ""
        players += bool(player)
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in _cells(hit))
        body += f'<tr title="{escape(one_line(hit["uri"]))}">{cells}<td>{player}</td></tr>'
    said = "".join(f"<p>{escape(one_line(note))}</p>" for note in notes)
    return f"{said}<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"


def hits_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return hits, as dicts, as an Arrow table."""
    import pyarrow as pa

    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def _headings(hits: Sequence[Mapping[str, Any]]) -> list[str]:
    found_by = ["found by"] if hits and "relevance" in hits[0] else []
    return ["", "score", "match", *found_by, "file", "time", "text"]


def _cells(hit: Mapping[str, Any]) -> list[str]:
    text = one_line(hit["text"] or "")
    text = text if len(text) <= _TEXT_WIDTH else f"{text[: _TEXT_WIDTH - 1]}…"
    return [
        str(hit["rank"]),
        f"{hit['score']:.3f}",
        format_probability(hit["probability"]),
        *([format_found_by(hit["vector_rank"], hit["text_rank"])] if "relevance" in hit else []),
        short_name(hit["uri"]),
        format_span(hit["start_s"], hit["end_s"], hit["best_s"] if hit.get("said_s") is None else hit["said_s"]),
        text,
    ]


def _player(hit: Mapping[str, Any]) -> str:
    """Return a player with the sound of a hit, "" for what is not a readable recording on this machine."""
    if hit["kind"] != "audio" or is_remote(hit["uri"]):
        return ""
    start = hit["start_s"] or 0.0
    end = start + _PLAYER_SECONDS if hit["end_s"] is None else min(hit["end_s"], start + _PLAYER_SECONDS)
    try:
        sound = encode(cut(hit["uri"], start, end, _PLAYER_RATE, _PLAYER_FILE_BYTES), _PLAYER_RATE)
    except ClaraError as error:
        return f"({escape(one_line(str(error))[-_REASON_WIDTH:])})"
    return f'<audio controls preload="none" src="data:audio/wav;base64,{base64.b64encode(sound).decode()}"></audio>'
