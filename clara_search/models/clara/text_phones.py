"""Phone bigrams of texts by pronunciation rules, in place of those that a text tower predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clara_search.errors import FormatError
from clara_search.files.json_reader import read_json
from clara_search.models.clara.phone_head import BLANK, PhoneHeadConfig, known_phone_bigrams
from clara_search.text.pronunciation import Pronouncer

PRONUNCIATION_FILE = "pronunciation.json"

MAX_CHARACTERS, MAX_PHONES = 10_000, 2000
"""Characters of a text that are read, and phones that are counted; the rest of a longer one does not count."""


def phone_indices(phones: str, inventory: str) -> list[int]:
    """Return the index of each phone in `inventory`, counted from 1; phones that are not in it are dropped."""
    return [position + BLANK + 1 for phone in phones if (position := inventory.find(phone)) >= 0]


def read_pronouncer(path: Path) -> Pronouncer:
    """Read a file of pronunciation rules.

    Raises:
        FormatError: The file cannot be read, or is of another form.
    """
    try:
        values = read_json(path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from error
    return Pronouncer.parse(values, path)


def load_pronouncer(folder: Path, phone_head: PhoneHeadConfig | None) -> Pronouncer | None:
    """Return the pronunciation rules of a model folder; None if it has none.

    Raises:
        FormatError: The file is broken, or the model has no phone head for it.
    """
    path = folder / PRONUNCIATION_FILE
    if not path.is_file():
        return None
    if phone_head is None:
        raise FormatError(f"{path}: pronunciation rules of a model without a phone head")
    return read_pronouncer(path)


def pronounced_bigrams(
    pronouncer: Pronouncer, inventory: str, texts: Sequence[str], language: str | None
) -> tuple[Tensor, Tensor]:
    """Return the phone bigrams of texts, expected over the languages that each may be in.

    Args:
        pronouncer: The rules.
        inventory: The phones of the phone head.
        texts: The texts.
        language: Language of all of them; None: not known.

    Returns:
        Counts, shape (n, phones * phones + phones), float32; and the texts that have any, shape (n,).
    """
    rows, weights, phones = list[int](), list[float](), list[Tensor]()
    for row, text in enumerate(texts):
        for reading in pronouncer.pronounce(text[:MAX_CHARACTERS], language):
            indices = phone_indices(reading.phones[:MAX_PHONES], inventory)
            if indices:
                rows.append(row)
                weights.append(reading.probability)
                phones.append(torch.tensor(indices))
    counts = torch.zeros(len(texts), len(inventory) * (len(inventory) + 1))
    known = torch.zeros(len(texts), dtype=torch.bool)
    if rows:
        known[rows] = True
        lengths = torch.tensor([len(some) for some in phones])
        bigrams = known_phone_bigrams(pad_sequence(phones, batch_first=True), lengths, len(inventory))
        counts.index_add_(0, torch.tensor(rows), bigrams * torch.tensor(weights)[:, None])
    return counts, known
