"""How a benchmark says what it measured, and on what."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

out_option = click.option("--out", type=click.Path(path_type=Path), help="Write the result as JSON to this file.")


def machine() -> dict[str, Any]:
    """Return what a figure depends on: processor, cores, and versions."""
    from clara_search.cpu import core_count

    return {
        "cpu": _cpu_model(),
        "cores": core_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "lancedb", "faiss-cpu")},
    }


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are aligned to the right."""
    lines = [headings, ["---", *("---:" for _ in headings[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def publish(result: dict[str, Any], table: str, out: Path | None) -> None:
    """Print `table` and the machine, and write `result` with the machine to the file `out`."""
    facts = machine()
    click.echo(table)
    click.echo("\nOn " + ", ".join(f"{name} {value}" for name, value in facts.items()) + ".")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({**result, "machine": facts}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
