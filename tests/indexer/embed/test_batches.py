from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from clara_search.store.database import Database
from indexer.embed import batches as embedding
from indexer.pipeline import index
from tests.helpers import ToneEncoder, write_tone


def test_windows_of_like_length_are_encoded_together(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_BATCH_WINDOWS", 32)

    class Measuring(ToneEncoder):
        padding, audio = 0, 0

        def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
            lengths = [len(waveform) for waveform in waveforms]
            self.audio += sum(lengths)
            self.padding += max(lengths) * len(lengths) - sum(lengths)
            return super().encode_audio(waveforms)

    for number in range(96):
        write_tone(tmp_path / "many" / f"{number:03}.wav", duration_s=4.0 if number % 2 else 0.5)
    encoder = Measuring()
    index([tmp_path / "many"], database, encoder)
    assert encoder.clips_encoded == 96
    assert max(encoder.batch_sizes) <= 32
    assert encoder.padding < 0.4 * encoder.audio  # in the order of the files it would be 0.78


def test_an_encoder_that_takes_several_calls_at_once_gets_them_and_the_vectors_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_BATCH_WINDOWS", 8)
    both = threading.Barrier(2)

    class Meeting(ToneEncoder):
        max_concurrent_calls = 2
        turns = count()

        def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
            if next(self.turns) < 2:  # the first two wait for each other
                both.wait(timeout=20)
            return super().encode_audio(waveforms)

    for number in range(40):
        write_tone(tmp_path / "in" / f"{number:03}.wav", 100 + 50 * number, duration_s=0.5 + number / 4)
    info = index([tmp_path / "in"], tmp_path / "one", ToneEncoder(), window_s=2.0, hop_s=1.0)
    assert index([tmp_path / "in"], tmp_path / "two", Meeting(), window_s=2.0, hop_s=1.0).rows == info.rows
    one, two = (Database(tmp_path / name).table().scan(["id", "vector"]).sort_by("id") for name in ("one", "two"))
    assert one["id"] == two["id"]
    np.testing.assert_allclose(one["vector"].to_pylist(), two["vector"].to_pylist(), atol=1e-6)
