"""`clara-search models`."""

from __future__ import annotations

from clara_search.models import registry
from tests.clara_search.commands.runner import json_lines, run


def test_models_are_listed_and_shown(monkeypatch):
    facts = {"name": "clara-small", "dim": 64, "sample_rate": 16000, "parameters": 12, "licence": "x", "card": "# A\nB"}
    monkeypatch.setattr(registry, "bundled_models", lambda: ["clara-small"])
    monkeypatch.setattr(registry, "describe_model", lambda name: facts)
    assert json_lines(run("models", "list", "--json")) == [facts]
    assert "16000" in run("models", "list").stdout
    assert json_lines(run("models", "show", "clara-small", "--json")) == [facts]
    assert "card:\n  # A\n  B" in run("models", "show", "clara-small").stdout
