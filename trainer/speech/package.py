"""A package of what training phone recognition needs, small enough to be carried to a machine with a GPU.

It holds the model without its sound head, recordings in Opus at a low rate, the phones of their transcripts, and a
script. So the other machine needs a checkout and torch, but neither espeak-ng nor wordfreq.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from clara_search.audio.waveform import Waveform
from clara_search.errors import FormatError
from clara_search.files.atomic import atomic_path
from clara_search.files.json_reader import read_json
from clara_search.models.clara.checkpoint import MODEL_FILES
from clara_search.models.clara.text_phones import PRONUNCIATION_FILE
from clara_search.models.registry import find_model
from trainer.data.corpus import Corpus
from trainer.data.shards import add_member

log = logging.getLogger(__name__)

FOLDER = "speech-package"
PHONES_FILE, SCRIPT_FILE, RECORDINGS_FILE = "phones.json", "train.sh", "recordings.tar"

_OPUS_LEVEL = 0.985
"""Compression of libsndfile's Opus: about 12 kbit/s."""

_BYTES_BESIDE = 160
"""Compressed bytes of a recording beside its audio, text and phones, at most."""

_SCRIPT = """#!/bin/sh
# Trains phone recognition with this package, in a checkout of clara-search: sh {folder}/train.sh [OUT]
# OUT/checkpoint.pt goes on here (the same command), or at home (fit-speech --out OUT, with all recordings).
here=$(dirname "$0")
: "${{DEVICE:=cuda}}" "${{MINUTES:=7}}" "${{STEPS:=1000000}}" "${{BATCH_S:=400}}" "${{WORKERS:=14}}"
: "${{PROJECTION_STEPS:=900}}"
exec python -m trainer fit-speech "$here/model" --data "$here/{recordings}" --phones "$here/{phones}" \\
    --device "$DEVICE" --minutes "$MINUTES" --steps "$STEPS" --batch-s "$BATCH_S" --workers "$WORKERS" \\
    --projection-steps "$PROJECTION_STEPS" --out "${{1:-runs/speech}}"
"""

Phones = Mapping[str, Mapping[str, Sequence[int]]]
"""Phones, by index, of texts by language and text."""


def write_package(
    source: str,
    corpus: Corpus,
    indices: Sequence[int],
    weights: Sequence[float],
    phones: Mapping[int, Sequence[int]],
    path: Path,
    max_bytes: int,
    seed: int = 0,
) -> int:
    """Write a package as a tar file, compressed by xz, with as many recordings as fit.

    Args:
        source: Name or folder of the model.
        corpus: All recordings.
        indices: Those to train on.
        weights: How much each counts: the more, the likelier it is in the package.
        phones: Phones of each recording by index; empty for one without a transcript.
        path: The file.
        max_bytes: Its greatest size.
        seed: Of the choice.

    Returns:
        The number of recordings.

    Raises:
        ConfigError: There is no such model.
        OutputError: The file cannot be written.
    """
    folder = find_model(source)
    files = {name: folder / name for name in (*MODEL_FILES, PRONUNCIATION_FILE) if (folder / name).is_file()}
    left = max_bytes - sum(file.stat().st_size for file in files.values())
    recordings, table = io.BytesIO(), dict[str, dict[str, list[int]]]()
    count = 0
    with tarfile.open(fileobj=recordings, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for index in _likeliest_first(indices, weights, seed):
            example = corpus.examples[index]
            audio = _opus(corpus.waveform(index), corpus.sample_rate)
            left -= len(audio) + len(example.text.encode()) + len(phones.get(index, ())) + _BYTES_BESIDE
            if left < 0:
                break
            add_member(tar, f"{count:06d}.opus", audio)
            add_member(tar, f"{count:06d}.json", json.dumps(_metadata(corpus, index), ensure_ascii=False).encode())
            if phones.get(index):
                table.setdefault(example.language, {})[example.text] = list(phones[index])
            count += 1
    script = _SCRIPT.format(folder=FOLDER, recordings=RECORDINGS_FILE, phones=PHONES_FILE)
    with atomic_path(path) as partial, tarfile.open(partial, "w:xz") as tar:
        for name, file in files.items():
            add_member(tar, f"{FOLDER}/model/{name}", file.read_bytes())
        add_member(tar, f"{FOLDER}/{PHONES_FILE}", json.dumps(table, ensure_ascii=False).encode())
        add_member(tar, f"{FOLDER}/{RECORDINGS_FILE}", recordings.getvalue())
        add_member(tar, f"{FOLDER}/{SCRIPT_FILE}", script.encode())
    log.info("%s: %d of %d recordings, %.1f MiB", path, count, len(indices), path.stat().st_size / 2**20)
    return count


def read_phones(path: Path) -> Phones:
    """Read the phones of texts from a package.

    Raises:
        FormatError: The file cannot be read, or is of another form.
    """
    try:
        table = read_json(path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from error
    rows = [phones for texts in table.values() if isinstance(texts, dict) for phones in texts.values()]
    if not all(isinstance(texts, dict) for texts in table.values()) or not all(map(_is_phones, rows)):
        raise FormatError(f"{path}: not the phones of texts by language")
    return table


def _is_phones(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(phone, int) and 0 < phone <= 500 for phone in value)


def _likeliest_first(indices: Sequence[int], weights: Sequence[float], seed: int) -> Iterator[int]:
    """Yield the indices in random order: a sample without replacement by their weights (Efraimidis and Spirakis)."""
    odds = np.maximum(np.array(weights, dtype=float), 1e-9)
    keys = np.random.default_rng(seed).random(len(odds)) ** (1.0 / odds)
    yield from (indices[position] for position in np.argsort(-keys))


def _opus(waveform: Waveform, sample_rate: int) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, waveform, sample_rate, format="OGG", subtype="OPUS", compression_level=_OPUS_LEVEL)
    return content.getvalue()


def _metadata(corpus: Corpus, index: int) -> dict[str, str | None]:
    names = ("text", "language", "text_language", "kind", "source", "licence")
    return {**{name: getattr(corpus.examples[index], name) for name in names}, "split": "train"}
