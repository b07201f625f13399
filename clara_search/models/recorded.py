"""The model that a table or a head records, which is not a model that the user named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from clara_search.models.hub import is_hub_id


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """Name and fingerprint of a model, as data records them. Deliberately no `str`: nothing loads it by its name alone.

    Threat model. Whoever made a table or a head chose the name. Looked up like one that the user typed, it makes this
    machine contact the hub with the user's token, download what its author offers, or pass a string to another
    package. So `load_encoder` takes a `RecordedModel` for

    - a bundled model;
    - a model of the hub's cache, or a folder of this machine, whose fingerprint is the one recorded;

    and nothing else: not the network, no URL, no network share, no "TYPE:SOURCE". Everything else is typed as `model`.

    Attributes:
        name: The name, as `Encoder.name`, or an absolute path; "" where none is recorded.
        fingerprint: The fingerprint, as `Encoder.fingerprint`.
    """

    name: str = ""
    fingerprint: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def is_in_hub_cache(self) -> bool:
        """Whether the name is looked up in the hub's cache."""
        return is_hub_id(self.name)

    @property
    def is_folder_name(self) -> bool:
        """Whether the name is looked up as a folder: an absolute path without "..", or a plain name."""
        path = PurePath(self.name)
        is_share = self.name.startswith(("//", "\\\\"))
        is_plain = path.is_absolute() or path.name == self.name
        return is_plain and not is_share and ".." not in path.parts and "://" not in self.name and ":" not in path.name


NOT_RECORDED = RecordedModel()
