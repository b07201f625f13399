"""The output of a benchmark: a Markdown table, the machine it ran on, and a JSON file."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

out_option = click.option("--out", type=click.Path(path_type=Path), help="Write the result to this file, as JSON.")


def machine() -> dict[str, Any]:
    """Return the processor, the number of cores and the versions that a figure depends on, or "not installed"."""
    from clara_search.cpu import core_count

    return {
        "cpu": _cpu_model(),
        "cores": core_count(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("clara-search", "torch", "numpy", "lancedb", "faiss-cpu")},
    }


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns, but the first, are aligned to the right."""
    lines = [headings, ["---", *("---:" for _ in headings[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def publish(result: dict[str, Any], table: str, out: Path | None) -> None:
    """Print `table` and the machine, and write `result` and the machine to `out` as JSON."""
    facts = machine()
    click.echo(table)
    click.echo("\nOn " + ", ".join(f"{name} {value}" for name, value in facts.items()) + ".")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({**result, "machine": facts}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a missing package must not lose a run
        return "not installed"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
