"""Training sources that a model's card states, so that a score on one of them can be marked."""

from __future__ import annotations

import re
from pathlib import Path

from clara_search.models.registry import model_card

_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_LIST = re.compile(r"^(?:training_sources|datasets):[ \t]*\n((?:[ \t]*-[ \t]*.+\n?)+)", re.MULTILINE)
_TABLE = re.compile(r"^\| *source *\|.*\n\|[-| :]+\n((?:\|.*\n?)+)", re.MULTILINE)


def training_sources(model: str | Path) -> tuple[str, ...] | None:
    """Return the training sources that a model card lists.

    They are listed in its front matter under `training_sources` or `datasets` (as on the Hugging Face hub), or in a
    table whose first column is called "source".

    Args:
        model: As in `load_encoder`.

    Returns:
        The sources in order; None if the card has no such list.

    Raises:
        UnknownModel: There is no such model.
    """
    card = model_card(model)
    front = _FRONT_MATTER.match(card)
    listed = _LIST.findall(front.group(1) + "\n") if front else []
    names = [line.strip().lstrip("-").strip().strip("\"'") for block in listed for line in block.splitlines()]
    names += [row.split("|")[1].strip() for block in _TABLE.findall(card) for row in block.splitlines()]
    return tuple(dict.fromkeys(name for name in names if name)) or None
