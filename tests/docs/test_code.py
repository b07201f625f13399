"""The Python in README and docs runs, and README prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n^```\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_code_runs_and_prints_the_output_beside_it(
    page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    index_block = BLOCK.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert index_block is not None
    if page.name != "README.md":
        exec(index_block[1], {})
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        capsys.readouterr()
        exec(compile(block[1], str(page), "exec"), {})
        if block[2] is not None:
            assert capsys.readouterr().out == block[2]


def test_some_pages_have_code() -> None:
    assert {page.stem for page in WITH_CODE} >= {"README", "quickstart", "search", "sources"}


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
