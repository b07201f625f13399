"""The search options by name: keyword arguments of `Index.search`, and options of `clara-search search`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, cast, get_type_hints

from clara_search.retrieval.options.base import HitFilter, RankedFilter, RowFilter, SearchOption


class SearchOptions(TypedDict, total=False):
    """For each option the type of its values and its class; None stands for its default, or leaves it out."""

    modality: Annotated[Literal["audio", "text"] | None, "clara_search.retrieval.options.modality:ModalityFilter"]
    where: Annotated[str | None, "clara_search.retrieval.options.where:WhereFilter"]
    per_recording: Annotated[int | None, "clara_search.retrieval.options.per_recording:PerRecording"]
    distinct: Annotated[bool | None, "clara_search.retrieval.options.distinct:Distinct"]
    diversity: Annotated[float | None, "clara_search.retrieval.options.diversity:Diversity"]
    hybrid: Annotated[bool | None, "clara_search.retrieval.options.hybrid:Hybrid"]
    text_weight: Annotated[float | None, "clara_search.retrieval.options.text_weight:TextWeight"]
    min_probability: Annotated[float | None, "clara_search.retrieval.options.min_probability:MinProbability"]


class SearchFilters(NamedTuple):
    """The options of one search, by the point of the search at which they act."""

    rows: Sequence[RowFilter] = ()
    ranked: Sequence[RankedFilter] = ()
    hits: Sequence[HitFilter] = ()
    text_weight: float | None = None
    """Weight of words in the ranking; None: rows are ranked by their vectors alone."""


@cache
def option_types() -> dict[str, tuple[Any, str]]:
    """Return for each option, by name, the type of its values and "module:class"."""
    hints = get_type_hints(SearchOptions, include_extras=True)
    return {name: (hint.__origin__, hint.__metadata__[0]) for name, hint in hints.items()}


def option_class(name: str) -> type[SearchOption]:
    """Import the class of an option.

    Args:
        name: A name of `option_types`.

    Returns:
        The class.
    """
    return _import_class(option_types()[name][1])


@cache
def _import_class(home: str) -> type[SearchOption]:
    module, attribute = home.split(":")
    option: type[SearchOption] = getattr(import_module(module), attribute)
    return option


def make_filters(options: Mapping[str, Any]) -> SearchFilters:
    """Make the filters of a search.

    Args:
        options: Values by name; None stands for the option's default, or leaves it out.

    Returns:
        The filters of rows, of ranked rows and of hits, each in the order of `SearchOptions`, and the weight of words.

    Raises:
        TypeError: There is no option of that name.
        QueryError: A value is out of bounds.
    """
    for name in options:
        if name not in option_types():
            raise TypeError(f"search has no option {name!r}: choose from {', '.join(option_types())}")
    given = []
    for name in option_types():
        option, value = option_class(name), options.get(name)
        value = getattr(option, "default", None) if value is None else value
        if value is not None:
            given.append(option(value))
    weights = [option.text_weight for option in given if hasattr(option, "text_weight")]
    # By its method, for an option has one of them; asking for the protocol takes 20 times as long.
    return SearchFilters(
        rows=[cast(RowFilter, option) for option in given if hasattr(option, "mask")],
        ranked=[cast(RankedFilter, option) for option in given if hasattr(option, "select")],
        hits=[cast(HitFilter, option) for option in given if hasattr(option, "apply")],
        text_weight=next((weight for weight in reversed(weights) if weight is not None), None),
    )
