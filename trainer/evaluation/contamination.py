"""Whether a model was trained on what it is tested on, by the sources that its card lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from clara_search.datasets.declarations.catalogue import same_source


def contamination(sources: Sequence[str], training_sources: Sequence[str] | None) -> dict[str, Any]:
    """Return the tested sources that the model was trained on.

    Args:
        sources: the source of each tested recording, "" where it is unknown.
        training_sources: those on the model's card; None if it lists none.

    Returns:
        Facts for a report; "share" is the share of tested recordings that come from training sources, None if the card
        lists none or a recording names no source.
    """
    known = {same_source(name) for name in training_sources or ()}
    trained = [source for source in sources if source and same_source(source) in known]
    return {
        "declared": None if training_sources is None else list(training_sources),
        "tested": dict(sorted(Counter(sources).items())),
        "trained_on": sorted(set(trained)),
        "share": len(trained) / len(sources) if training_sources is not None and all(sources) else None,
    }
