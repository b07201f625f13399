"""Reports of runs of the commands: their tables, comparisons and pages, and what cannot be compared."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from benchmarks.__main__ import main
from benchmarks.report import output
from benchmarks.tasks.quality import retrieval as retrieval_task
from benchmarks.tasks.quality import zero_shot as zero_shot_task
from clara_search.models.base import Embeddings
from tests.benchmarks.tasks.quality.test_retrieval import CLIPS, PerfectEncoder, captions, write_clips


class WorseEncoder(PerfectEncoder):
    """Takes the clips above half for the next one."""

    name, fingerprint = "worse", "1" * 64

    def encode_text(self, texts: list[str], language: str | None = None) -> Embeddings:
        numbers = [int(text.split()[-1]) for text in texts]
        return self._vectors([number + (number > CLIPS // 2) for number in numbers])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    rows: list[dict[str, Any]] = [
        {"path": f"{n}-a.wav", "text": captions(n), "label": f"kind {n % 3}", "source": "ESC50"}
        for n in range(1, CLIPS + 1)
    ]
    return write_clips(tmp_path / "data", rows)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def run(monkeypatch: pytest.MonkeyPatch, encoder: PerfectEncoder, command: str, data: Path, out: Path) -> Path:
    for task in (retrieval_task, zero_shot_task):
        monkeypatch.setattr(task, "load_encoder", lambda model: encoder)
    labels = ("--labels", "kind 0=x 3,kind 1=x 1,kind 2=x 2") if command == "zero-shot" else ()
    result = invoke(command, "--data", data, "--split", "all", "--out", out, *labels)
    assert result.exit_code == 0, result.output
    return out


class Page(HTMLParser):
    """Counts the tags of a page, and lists what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_runs_over_the_same_data_are_joined_and_compared(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [
        run(monkeypatch, PerfectEncoder(), "retrieval", data, tmp_path / "a.json"),
        run(monkeypatch, WorseEncoder(), "retrieval", data, tmp_path / "b.json"),
        run(monkeypatch, WorseEncoder(), "zero-shot", data, tmp_path / "c.json"),
    ]
    result = invoke("report", *paths, "--out", tmp_path / "report")
    assert result.exit_code == 0, result.output
    text, html = ((tmp_path / "report" / name).read_text() for name in ("report.md", "report.html"))
    assert "| perfect on manifest.jsonl | all, text to audio | 60 in 12 | 100.0 [100.0, 100.0] (8.33) |" in text
    # Half of the 60 captions, those of six clips, are taken for the next clip.
    difference = re.search(
        r"\| worse on manifest.jsonl \| perfect .*text to audio \| 60 \| R@1 \| (.*?) \| (.*?) \|", text
    )
    assert difference is not None
    assert difference.group(1).startswith("-50.0 [-63")
    assert difference.group(2) == "< 0.0001"
    assert re.search(r"\| worse on manifest.jsonl \(c\) \| 12 \| 50.0 \[\S+ \S+\] \| 33.3 \| 33.3 \|", text)
    assert "min(m, k)" in text
    page = Page(html)
    assert page.tags.count("svg") >= 6
    assert page.tags.count("audio") == 20  # of the ten worst queries of one run, the right clip and the one found
    assert all(source.startswith("data:audio/ogg;base64,") for source in page.sources)
    waveform, rate = soundfile.read(io.BytesIO(base64.b64decode(page.sources[0].partition(",")[2])))
    assert (rate, len(waveform)) == (16_000, 4_000)
    assert "caption 0 of clip 7" in html


def test_a_run_says_what_it_depends_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run(monkeypatch, PerfectEncoder(), "retrieval", data, tmp_path / "a.json")
    facts = json.loads(out.read_text())
    assert (facts["fingerprint"], facts["seed"], facts["num_resamples"]) == ("0" * 64, 0, 1000)
    assert facts["windows"]["window_s"] > 0
    assert facts["encoder"]["sample_rate"] == 16_000
    assert facts["seconds"]["embedding"] > 0
    assert facts["contamination"]["tested"] == {"ESC50": CLIPS}
    assert sum(facts["cosines"]["matches"]) == pytest.approx(1.0)
    assert facts["cosines"]["matches"][-1] == 1.0  # all cosines are 1
    assert facts["cosines"]["others"][40] == pytest.approx(1.0)  # and all others 0
    again = json.loads(run(monkeypatch, WorseEncoder(), "retrieval", data, tmp_path / "b.json").read_text())
    assert again["data_fingerprint"] == facts["data_fingerprint"]
    queries = [json.loads(line) for line in (tmp_path / "a.queries.jsonl").read_text().splitlines()]
    assert len([x for x in queries if x["group"] == "all, text to audio"]) == CLIPS * 5
    means = {name: np.mean([x["measures"][name] for x in queries[: CLIPS * 5]]) for name in ("R@1", "mAP@16")}
    assert means == {"R@1": 1.0, "mAP@16": 1.0}


def test_a_missing_package_loses_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "version", lambda name: output_version(name))
    assert output.machine()["faiss-cpu"] == "not installed"
    assert output.machine()["numpy"] == np.__version__


def output_version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    if name == "faiss-cpu":
        raise PackageNotFoundError(name)
    return version(name)


def test_two_data_sets_of_one_name_are_told_apart(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(monkeypatch, PerfectEncoder(), "retrieval", data, tmp_path / "a.json")
    (tmp_path / "other").mkdir()
    rows: list[dict[str, Any]] = [{"path": f"{n}-a.wav", "text": captions(n)[:4]} for n in range(1, CLIPS + 1)]
    second = run(monkeypatch, WorseEncoder(), "retrieval", write_clips(tmp_path / "other", rows), tmp_path / "b.json")
    result = invoke("report", first, second, "--out", tmp_path / "report")
    assert "have data of one name and of different content" in result.output
    assert "## Comparisons" not in result.output


def test_what_is_no_run_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.json").write_text('{"benchmark": "scale"}')
    result = invoke("report", tmp_path / "x.json", "--out", tmp_path / "report")
    assert result.exit_code == 1
    assert "is no record of a run of retrieval or zero-shot" in result.output
    out = run(monkeypatch, PerfectEncoder(), "retrieval", data, tmp_path / "a.json")
    (tmp_path / "a.queries.jsonl").write_text('{"group": "all"}\n')
    result = invoke("report", out, "--out", tmp_path / "report")
    assert result.exit_code == 1
    assert "a.queries.jsonl, line 1: is no result of a query" in result.output


def test_texts_of_the_data_are_text_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [
        {"path": f"{n}-a.wav", "text": [f"<script>alert(1)</script> & clip {n}"]} for n in range(1, CLIPS + 1)
    ]
    out = run(monkeypatch, WorseEncoder(), "retrieval", write_clips(tmp_path, rows), tmp_path / "a.json")
    assert invoke("report", out, "--out", tmp_path / "report").exit_code == 0
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert "script" not in page.tags
