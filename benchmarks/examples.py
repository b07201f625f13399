"""Which recordings a benchmark takes, and their embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import click
import numpy as np
from tqdm import tqdm

from clara_search.audio.decode import load_audio
from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S, crop, window_spans
from clara_search.datasets.example import METADATA_FIELDS, Example
from clara_search.datasets.readers import read_examples
from clara_search.errors import AudioError, QueryError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.windows import mean_embedding
from trainer.config.evaluation import bundled_digits
from trainer.data.text_split import text_split

data_option = click.option(
    "--data", required=True, metavar="GLOB", help='Shards or manifests: "DIR/*.tar" or a CSV with path and text.'
)
model_option = click.option("--model", default="clara-small", show_default=True, help="Name or folder of the model.")
where_option = click.option(
    "--where", multiple=True, metavar="FIELD=VALUE", help="Only such examples, such as language=de; can be repeated."
)

_WINDOWS_A_BATCH = 32


def select(pattern: str, split: str, where: Sequence[str]) -> Iterator[Example]:
    """Yield the examples of `pattern` on one side of the text split ("all": on any) that have each FIELD=VALUE."""
    wanted = dict(_condition(condition) for condition in where)
    train_texts = bundled_digits().all_words
    for example in read_examples(pattern):
        if split not in ("all", text_split(example.text, train_texts)):
            continue
        if all(str(getattr(example, name)) == value for name, value in wanted.items()):
            yield example


def embed_examples(encoder: Encoder, examples: Iterable[Example]) -> tuple[list[Example], Embeddings, list[str]]:
    """Return the examples that could be decoded, their vectors of shape (n, dim), and the reasons of the others.

    A clip longer than a window has the mean over its windows, renormalised, as an audio query has.
    """
    kept: list[Example] = []
    failures: list[str] = []
    waveforms: list[np.ndarray] = []
    owners: list[int] = []
    vectors: list[Embeddings] = []
    for example in tqdm(examples, desc="embedding", unit="clip", disable=None):
        try:
            waveform = load_audio(example.audio, encoder.sample_rate)
        except AudioError as error:
            failures.append(f"{example.key}: {error}")
            continue
        duration_s = len(waveform) / encoder.sample_rate
        for window in window_spans(duration_s, DEFAULT_WINDOW_S, DEFAULT_HOP_S):
            waveforms.append(crop(waveform, window, encoder.sample_rate))
            owners.append(len(kept))
        kept.append(example)
        if len(waveforms) >= _WINDOWS_A_BATCH:
            vectors.append(encoder.encode_audio(waveforms))
            waveforms = []
    if waveforms:
        vectors.append(encoder.encode_audio(waveforms))
    if not kept:
        raise QueryError("no example can be scored: none was selected, or none could be decoded")
    by_window = np.concatenate(vectors)
    firsts = np.searchsorted(owners, np.arange(len(kept) + 1))
    means = [mean_embedding(by_window[first:last]) for first, last in pairwise(firsts)]
    return kept, np.stack(means), failures


def _condition(condition: str) -> tuple[str, str]:
    name, equals, value = condition.partition("=")
    if not equals or name not in METADATA_FIELDS:
        raise click.UsageError(f"--where takes FIELD=VALUE, FIELD one of {', '.join(METADATA_FIELDS)}")
    return name, value
