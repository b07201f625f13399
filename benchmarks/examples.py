"""The recordings of a benchmark and their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S, crop, window_spans
from clara_search.datasets.dataset import Dataset
from clara_search.datasets.dataset_examples import read_dataset_examples
from clara_search.datasets.declarations.catalogue import DATASETS, find_dataset, plain_name
from clara_search.datasets.example import METADATA_FIELDS, Example
from clara_search.datasets.readers import read_examples
from clara_search.datasets.recordings import decode_recording, hash_recording, read_recording
from clara_search.errors import AudioError, QueryError, SourceError
from clara_search.files.tables import OnError, raise_error
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.windows import mean_embedding
from trainer.config.evaluation import bundled_digits
from trainer.data.text_split import Split, text_splits, texts_of

data_option = click.option(
    "--data",
    required=True,
    metavar="GLOB",
    help='Shards or a manifest with path and text, such as "DIR/*.tar", or a copy of a published dataset, such as '
    '"clotho:DIR".',
)
model_option = click.option(
    "--model", default="clara-small", show_default=True, help="Name, folder or hub id of the model."
)
where_option = click.option(
    "--where", multiple=True, metavar="FIELD=VALUE", help="Only these examples, such as language=de; repeatable."
)
missing_option = click.option(
    "--allow-missing",
    is_flag=True,
    help="Score the rest where recordings or captions are missing, and mark the result.",
)


def split_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option --split with a default."""
    return click.option(
        "--split",
        type=click.Choice(["test", "valid", "train", "all"]),
        default=default,
        show_default=True,
        help="As the data declares it, else by a hash of the texts as for the bundled model.",
    )


_BATCH_WINDOWS = 32


def select(pattern: str, split: str, where: Sequence[str], problems: list[str] | None = None) -> Iterator[Example]:
    """Yield examples.

    Splits that the data declares are kept. Other recordings are split as the bundled model's were, by their texts.

    Args:
        pattern: shards or manifests, or "NAME:DIR" for a copy of a declared dataset.
        split: "test", "valid", "train" or "all".
        where: conditions FIELD=VALUE, all of which an example has to meet.
        problems: gets a line for each row that cannot be used; None: the first one is an error.

    Raises:
        ClaraError: as `read_examples` does; a split of another name is an error.
    """
    conditions = dict(_condition(condition) for condition in where)
    by_text = iter(_splits_by_text(pattern)) if split != "all" else None
    report = raise_error if problems is None else lambda error: problems.append(str(error))
    for example in _read(pattern, report):
        if by_text is not None and split != (example.split or next(by_text)):
            continue
        if all(str(getattr(example, name)) == value for name, value in conditions.items()):
            yield example


def _read(pattern: str, report: OnError) -> Iterator[Example]:
    name, _, folder = pattern.partition(":")
    if folder and Path(folder).is_dir() and plain_name(name) in map(plain_name, DATASETS):
        return read_dataset_examples(*dataset_copy(pattern), report)
    return read_examples(pattern, report)


def dataset_copy(data: str) -> tuple[Dataset, Path]:
    """Return the declaration and the folder of a copy of a dataset, "NAME:DIR". Raises ConfigError for another name."""
    name, _, folder = data.partition(":")
    return find_dataset(name), Path(folder)


def _splits_by_text(pattern: str) -> list[Split]:
    """Return the split of each recording for which the data declares none."""
    captions = [texts_of(example) for example in _read(pattern, lambda error: None) if example.split is None]
    return text_splits(captions, bundled_digits().all_words)


@dataclass(frozen=True)
class Embedded:
    """Recordings with their vectors.

    Attributes:
        examples: the n recordings that could be decoded.
        vectors: their unit vectors, shape (n, dim).
        hashes: of the content of each.
        failures: the reasons of the others, a line each.
    """

    examples: list[Example]
    vectors: Embeddings
    hashes: list[str]
    failures: list[str]


def embed_examples(encoder: Encoder, examples: Iterable[Example]) -> Embedded:
    """Embed examples as audio queries are embedded: a long one has the mean vector of its windows, of unit norm.

    Args:
        encoder: gives the vectors.
        examples: recordings.

    Raises:
        QueryError: no example could be decoded.
    """
    decoded: list[Example] = []
    hashes: list[str] = []
    failures: list[str] = []
    waveforms: list[np.ndarray] = []
    owners: list[int] = []
    vectors: list[Embeddings] = []
    for example in tqdm(examples, desc="embedding", unit="clip", disable=None):
        try:
            content = read_recording(example.audio)
            waveform = decode_recording(example, content, encoder.sample_rate, example.key)
        except OSError as error:
            failures.append(f"{example.key}: {error.strerror or error}")
            continue
        except (AudioError, SourceError) as error:
            failures.append(f"{example.key}: {str(error).removeprefix(f'{example.key}: ')}")
            continue
        duration_s = len(waveform) / encoder.sample_rate
        for window in window_spans(duration_s, DEFAULT_WINDOW_S, DEFAULT_HOP_S):
            waveforms.append(crop(waveform, window, encoder.sample_rate))
            owners.append(len(decoded))
        decoded.append(example)
        hashes.append(hash_recording(example, content).hex())
        if len(waveforms) >= _BATCH_WINDOWS:
            vectors.append(encoder.encode_audio(waveforms))
            waveforms = []
    if waveforms:
        vectors.append(encoder.encode_audio(waveforms))
    if not decoded:
        first = f" (the first of {len(failures)} failures: {failures[0]})" if failures else ""
        raise QueryError(f"no example can be scored: none was selected or could be decoded{first}")
    by_window = np.concatenate(vectors)
    bounds = np.searchsorted(owners, np.arange(len(decoded) + 1))
    means = [mean_embedding(by_window[first:last]) for first, last in pairwise(bounds)]
    return Embedded(decoded, np.stack(means), hashes, failures)


def require_complete(failures: Sequence[str], allow_missing: bool) -> None:
    """Raise SourceError, with their number and the first of them, if there are failures and none are allowed."""
    if failures and not allow_missing:
        raise SourceError(
            f"{len(failures)} recordings or captions are missing or cannot be used, the first: {failures[0]}; "
            "--allow-missing scores the others, and marks the result"
        )


def _condition(condition: str) -> tuple[str, str]:
    name, equals, value = condition.partition("=")
    if not equals or name not in METADATA_FIELDS:
        raise click.UsageError(f"--where takes FIELD=VALUE, FIELD one of {', '.join(METADATA_FIELDS)}")
    return name, value
