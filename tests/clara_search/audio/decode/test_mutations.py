"""Damaged files of many formats: decoded, or refused with a reason; nothing crashes, hangs or grows."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

from clara_search.audio.decode import decode_audio
from clara_search.errors import AudioError
from clara_search.files.limits import limits
from clara_search.store.database import Database
from indexer.ledger.failures import failures
from indexer.pipeline import index
from tests.clara_search.audio.decode.files import contained, encoded, melody
from tests.helpers import ToneEncoder

FILES = {
    ".wav": encoded(melody(2.0), "WAV"),
    ".aiff": encoded(melody(2.0), "AIFF"),
    ".flac": encoded(melody(2.0), "FLAC"),
    ".ogg": encoded(melody(2.0), "OGG"),
    ".mp3": encoded(melody(2.0), "MP3"),
    ".opus": contained(melody(2.0, 48_000), "ogg", "libopus", 48_000),
    ".m4a": contained(melody(2.0), "mp4", "aac"),
    ".mkv": contained(melody(2.0), "matroska", "aac"),
    ".aac": contained(melody(2.0), "adts", "aac"),
    ".wv": contained(melody(2.0), "wv", "wavpack"),
    ".ts": contained(melody(2.0), "mpegts", "aac"),
    ".caf": encoded(melody(2.0), "CAF"),
}
MUTATIONS = int(os.environ.get("CLARA_MUTATIONS", "300"))
"""More of them are tried by hand: 10,000 take some minutes."""


def mutated(rng: random.Random, content: bytes) -> bytes:
    """Flip bits, cut, repeat, drop or replace a part, or join another file."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        kind, at = rng.randrange(6), rng.randrange(len(changed))
        if kind == 0:
            for _ in range(rng.choice([1, 3, 30])):
                changed[rng.randrange(min(len(changed), rng.choice([64, 4096, len(changed)])))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[max(1, at) :]
        elif kind == 2:
            changed[at:at] = changed[at : at + rng.randrange(1, 5000)]
        elif kind == 3 and len(changed) > 100:
            del changed[at : at + rng.randrange(1, 50)]
        elif kind == 4:
            changed[at : at + 40] = rng.randbytes(40)
        else:
            changed += rng.choice(list(FILES.values()))[rng.choice([0, at]) :]
    return bytes(changed)


@pytest.mark.slow
def test_a_mutated_file_is_decoded_or_refused_with_a_reason() -> None:
    rng, decoded, reasons = random.Random(0), 0, list[str]()
    for number in range(MUTATIONS):
        content = mutated(rng, rng.choice(list(FILES.values())))
        with limits(audio_free_seconds=60, audio_seconds=600):
            try:
                waveform = decode_audio(content, 16_000).waveform
            except AudioError as error:
                reasons.append(str(error))
                continue
        assert np.isfinite(waveform).all(), number
        decoded += 1
    assert all(len(reason.splitlines()) == 1 for reason in reasons)
    assert 0.3 < decoded / MUTATIONS < 0.95


def test_every_mutated_file_is_in_the_ledger(tmp_path: Path, database: Database) -> None:
    rng = random.Random(1)
    for number in range(60):
        suffix, content = rng.choice(list(FILES.items()))
        if suffix != ".ts":  # which is taken for a recording by its content
            (tmp_path / f"{number:03}{suffix}").write_bytes(mutated(rng, content))
    paths = [path for path in tmp_path.iterdir() if path.is_file()]
    summary = index(sorted(paths), database, ToneEncoder())
    assert summary.indexed + summary.failed == len(paths)
    assert len(failures(database)) == summary.failed
    again = index(sorted(paths), database, ToneEncoder(), retry_failed=True)
    assert (again.unchanged, again.failed) == (summary.indexed, summary.failed)
