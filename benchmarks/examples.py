"""The recordings of a benchmark and their embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import click
import numpy as np
from tqdm import tqdm

from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S, crop, window_spans
from clara_search.datasets.example import METADATA_FIELDS, Example
from clara_search.datasets.readers import read_examples
from clara_search.datasets.recordings import load_recording
from clara_search.errors import AudioError, QueryError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.windows import mean_embedding
from trainer.config.evaluation import bundled_digits
from trainer.data.text_split import text_split

data_option = click.option(
    "--data", required=True, metavar="GLOB", help='Shards or a manifest with path and text, such as "DIR/*.tar".'
)
model_option = click.option(
    "--model", default="clara-small", show_default=True, help="Name, folder or hub id of the model."
)
where_option = click.option(
    "--where", multiple=True, metavar="FIELD=VALUE", help="Only these examples, such as language=de; repeatable."
)

_BATCH_WINDOWS = 32


def select(pattern: str, split: str, where: Sequence[str]) -> Iterator[Example]:
    """Yield examples.

    Args:
        pattern: shards or manifests.
        split: of the bundled model's split by texts: "train", "valid", "test" or "all".
        where: conditions FIELD=VALUE, all of which an example has to meet.
    """
    conditions = dict(_condition(condition) for condition in where)
    train_texts = bundled_digits().all_words
    for example in read_examples(pattern):
        if split not in ("all", text_split(example.text, train_texts)):
            continue
        if all(str(getattr(example, name)) == value for name, value in conditions.items()):
            yield example


def embed_examples(encoder: Encoder, examples: Iterable[Example]) -> tuple[list[Example], Embeddings, list[str]]:
    """Embed examples as audio queries are embedded: a long one has the mean vector of its windows, of unit norm.

    Args:
        encoder: gives the vectors.
        examples: recordings.

    Returns:
        The n examples that could be decoded, their vectors (n, dim), and the reasons of the others.

    Raises:
        QueryError: no example could be decoded.
    """
    decoded: list[Example] = []
    failures: list[str] = []
    waveforms: list[np.ndarray] = []
    owners: list[int] = []
    vectors: list[Embeddings] = []
    for example in tqdm(examples, desc="embedding", unit="clip", disable=None):
        try:
            waveform = load_recording(example, encoder.sample_rate)
        except AudioError as error:
            failures.append(f"{example.key}: {error}")
            continue
        duration_s = len(waveform) / encoder.sample_rate
        for window in window_spans(duration_s, DEFAULT_WINDOW_S, DEFAULT_HOP_S):
            waveforms.append(crop(waveform, window, encoder.sample_rate))
            owners.append(len(decoded))
        decoded.append(example)
        if len(waveforms) >= _BATCH_WINDOWS:
            vectors.append(encoder.encode_audio(waveforms))
            waveforms = []
    if waveforms:
        vectors.append(encoder.encode_audio(waveforms))
    if not decoded:
        raise QueryError("no example can be scored: none was selected or could be decoded")
    by_window = np.concatenate(vectors)
    bounds = np.searchsorted(owners, np.arange(len(decoded) + 1))
    means = [mean_embedding(by_window[first:last]) for first, last in pairwise(bounds)]
    return decoded, np.stack(means), failures


def _condition(condition: str) -> tuple[str, str]:
    name, equals, value = condition.partition("=")
    if not equals or name not in METADATA_FIELDS:
        raise click.UsageError(f"--where takes FIELD=VALUE, FIELD one of {', '.join(METADATA_FIELDS)}")
    return name, value
