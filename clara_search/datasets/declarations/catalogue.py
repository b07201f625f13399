"""All declared datasets, found by name or alias."""

from __future__ import annotations

from collections.abc import Mapping

from clara_search.datasets.dataset import Dataset
from clara_search.datasets.declarations.captions import CAPTIONS
from clara_search.datasets.declarations.emotion import EMOTION
from clara_search.datasets.declarations.sounds import SOUNDS
from clara_search.datasets.declarations.speech import SPEECH
from clara_search.errors import ConfigError

DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in (*EMOTION, *SOUNDS, *CAPTIONS, *SPEECH)}
"""The declared datasets by name."""


def plain_name(name: str) -> str:
    """Return a dataset's name for comparisons: the same for "CREMA-D", "crema_d" and "CremaD"."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def find_dataset(name: str) -> Dataset:
    """Return the declaration of a dataset.

    Args:
        name: Its name or an alias, in any spelling of case and punctuation.

    Raises:
        ConfigError: No dataset has that name; the message lists the names.
    """
    for dataset in DATASETS.values():
        if plain_name(name) in map(plain_name, (dataset.name, *dataset.aliases)):
            return dataset
    raise ConfigError(f"no dataset {name!r}; there are {', '.join(DATASETS)}")


def same_source(name: str) -> str:
    """Return the name by which sources are compared: the plain name of the dataset so called, else of `name` itself."""
    try:
        return plain_name(find_dataset(name).name)
    except ConfigError:
        return plain_name(name)
