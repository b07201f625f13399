"""A search option is one file and one line: the Python keyword and the command's option follow from them."""

from __future__ import annotations

import json

import click
import numpy as np
import pytest
from click.testing import CliRunner

from clara_search.commands.common import search_options
from clara_search.errors import QueryError
from clara_search.retrieval.index import Index
from clara_search.retrieval.options import registry
from clara_search.retrieval.options.registry import make_filters, option_class, option_types
from tests.tables import table_of, unit_vectors

QUERY = unit_vectors(1, seed=1)


class EvenRows:
    """Rows of even position, and of those only the first `value`."""

    help = "Only this many even rows."
    metavar = "N"

    def __init__(self, value):
        if value < 1:
            raise QueryError(f"even_rows must be at least 1, got {value}")
        self.count = value

    def mask(self, table, snapshot):
        return (np.arange(len(snapshot)) % 2 == 0) & (np.arange(len(snapshot)) < 2 * self.count)


class Reversed:
    """The hits in reverse order."""

    help = "Worst first."
    metavar = None

    def __init__(self, value):
        self.is_on = value

    def apply(self, hits):
        return hits[::-1] if self.is_on else hits


@pytest.fixture
def more_options(monkeypatch):
    types = {
        **option_types(),
        "even_rows": (int | None, f"{__name__}:EvenRows"),
        "worst_first": (bool | None, f"{__name__}:Reversed"),
    }
    monkeypatch.setattr(registry, "option_types", lambda: types)
    monkeypatch.setattr("clara_search.commands.common.option_types", lambda: types)


@pytest.fixture
def index(database):
    return Index(table_of(database, unit_vectors(60), kind=["audio", "text"] * 30))


@pytest.mark.usefixtures("more_options")
def test_a_further_row_filter_is_a_keyword_of_search(index):
    hits = index.search_vectors(QUERY, 10, even_rows=3)[0]
    assert sorted(hit.id for hit in hits) == ["000000", "000002", "000004"]
    assert index.search_vectors(QUERY, 10, even_rows=3, modality="text") == [[]]
    assert index.search_vectors(QUERY, 10, even_rows=None) == index.search_vectors(QUERY, 10)
    with pytest.raises(QueryError, match="at least 1, got 0"):
        index.search_vectors(QUERY, 10, even_rows=0)


@pytest.mark.usefixtures("more_options")
def test_a_hit_filter_reorders_and_ranks_are_counted_anew(index):
    plain, turned = index.search_vectors(QUERY, 5)[0], index.search_vectors(QUERY, 5, worst_first=True)[0]
    assert [hit.id for hit in turned] == [hit.id for hit in plain][::-1]
    assert [hit.rank for hit in turned] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("more_options")
def test_a_further_option_is_an_option_of_the_command():
    @click.command()
    @search_options()
    def command(**options):
        click.echo(json.dumps(options))

    output = CliRunner().invoke(command, ["--even-rows", "3", "--worst-first"]).stdout
    options = json.loads(output)
    assert {name: value for name, value in options.items() if value is not None} == {
        "even_rows": 3,
        "worst_first": True,
    }
    assert set(options) == set(registry.option_types())
    assert "--even-rows N" in CliRunner().invoke(command, ["--help"]).stdout
    assert "is not one of 'audio', 'text'" in CliRunner().invoke(command, ["--modality", "video"]).stderr


@pytest.mark.parametrize("name", option_types())
def test_an_option_filters_rows_or_hits_and_has_a_help_text(name):
    option = option_class(name)
    assert sum(hasattr(option, point) for point in ("mask", "select", "apply", "text_weight")) == 1
    assert option.help.endswith(".")


def test_an_unknown_option_and_a_bad_value_are_refused(index):
    with pytest.raises(TypeError, match="no option 'modalty': choose from modality, where"):
        index.search_vectors(QUERY, modalty="audio")
    with pytest.raises(QueryError, match="modality must be 'audio' or 'text', got 'video'"):
        index.search_vectors(QUERY, modality="video")


def test_an_option_of_none_has_its_default_or_is_left_out():
    filters = make_filters({"modality": None, "where": None, "per_recording": None})
    assert [type(option).__name__ for group in filters[:3] for option in group] == ["PerRecording"]
    assert filters.ranked[0].per_recording == 1
    assert filters.text_weight is None
