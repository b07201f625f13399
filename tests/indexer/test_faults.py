"""Faults during a run: each costs as little as it can, is reported, and the next run continues."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from clara_search.audio.decode import AudioSource, AudioStream, stream_audio
from clara_search.errors import DatabaseError, FormatError, SourceError
from clara_search.store.database import Database
from indexer.decode import queue as decoding
from indexer.decode.prefetch import DecodeConfig, prefetch_items
from indexer.decode.read import LoadedItem
from indexer.embed import batches as embedding
from indexer.ledger.failures import failures
from indexer.ledger.reconcile import open_ledger
from indexer.pipeline import index
from indexer.sources.item import Item
from indexer.sources.listing import list_items
from indexer.write import writer as writing
from indexer.write.writer import ItemStatus
from tests.helpers import ToneEncoder, write_tone

Clips = Sequence[npt.NDArray[np.float32]]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_BATCH_WINDOWS", 32)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk takes root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_an_error_that_says_so_and_the_next_run_goes_on(
    tmp_path: Path, many: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_COMMIT_ROWS", 8)
    monkeypatch.setattr(writing, "_COMMIT_SHARE", 1.0)
    filler = small_disk / "filler"
    encoder = ToneEncoder()

    def fill(item: Item, status: ItemStatus) -> None:
        if not filler.exists():
            free = os.statvfs(small_disk)
            filler.write_bytes(b"x" * free.f_bavail * free.f_frsize)

    with pytest.raises(DatabaseError, match="No space left on device"):
        index([many], Database(small_disk / "db", create=True), encoder, progress=fill)
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    summary = index([many], Database(small_disk / "db"), encoder)
    assert summary.unchanged > 0
    assert (summary.indexed + summary.unchanged, summary.failed, summary.rows) == (100, 0, 100)


def test_a_folder_that_vanishes_ends_the_run_and_loses_no_row(
    many: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    index([many], database, ToneEncoder())
    for number, path in enumerate(sorted(many.iterdir())):
        write_tone(path, 111 + 50 * number, duration_s=0.1)
    away = many.with_name("away")

    class Unmounting(ToneEncoder):
        def encode_audio(self, waveforms: Clips) -> npt.NDArray[np.float32]:
            if many.is_dir():
                many.rename(away)
            return super().encode_audio(waveforms)

    monkeypatch.setattr(decoding, "_MAX_QUEUED_FILES", 4)
    with pytest.raises(SourceError, match=r"is no longer there \(unmounted\?\)"):
        index([many], database, Unmounting(), prune=True)
    assert database.table().count() == 100
    away.rename(many)
    assert index([many], database, ToneEncoder(), prune=True).rows == 100


def test_pruning_takes_an_empty_folder_for_one_that_is_not_mounted(
    tmp_path: Path, many: Path, database: Database
) -> None:
    index([many], database, ToneEncoder())
    for path in many.iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="has no recordings now"):
        index([many], database, ToneEncoder(), prune=True)
    assert database.table().count() == 100
    write_tone(tmp_path / "other.wav")
    assert index([tmp_path], database, ToneEncoder(), prune=True).rows == 1


def test_a_batch_that_does_not_fit_into_memory_is_halved_until_it_does(many: Path, database: Database) -> None:
    class Small(ToneEncoder):
        def encode_audio(self, waveforms: Clips) -> npt.NDArray[np.float32]:
            if len(waveforms) > 5:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().encode_audio(waveforms)

    encoder = Small()
    assert index([many], database, encoder).rows == 100
    assert encoder.clips_encoded == 100
    assert max(encoder.batch_sizes) == 4


@pytest.mark.parametrize("broken", [lambda v: v[:, :1], lambda v: v[:-1], lambda v: v[:, :-1]])
def test_an_encoder_that_gives_vectors_of_another_shape_is_an_error(
    many: Path, database: Database, broken: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
) -> None:
    class Broken(ToneEncoder):
        def encode_audio(self, waveforms: Clips) -> npt.NDArray[np.float32]:
            return broken(super().encode_audio(waveforms))

    with pytest.raises(FormatError, match=r"the encoder returned vectors of shape \(\d+, \d+\), expected \(\d+, 16\)"):
        index([many], database, Broken())
    assert database.table().count() == 0


def test_a_clip_that_does_not_fit_into_memory_costs_itself_alone(recordings: Path, database: Database) -> None:
    write_tone(recordings / "long.wav", duration_s=3)

    class Small(ToneEncoder):
        def encode_audio(self, waveforms: Clips) -> npt.NDArray[np.float32]:
            if max(map(len, waveforms)) > 20_000:
                raise MemoryError
            return super().encode_audio(waveforms)

    summary = index([recordings], database, Small())
    assert (summary.indexed, summary.failed) == (3, 1)
    assert failures(database)[0]["reason"] == "does not fit into memory"


def test_another_error_of_the_encoder_is_not_taken_for_memory(recordings: Path, database: Database) -> None:
    class Broken(ToneEncoder):
        def encode_audio(self, waveforms: Clips) -> npt.NDArray[np.float32]:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        index([recordings], database, Broken())


@pytest.mark.slow
def test_a_decoder_that_hangs_costs_one_file_and_holds_nobody_up(
    many: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()

    def load_or_hang(source: AudioSource, sample_rate: int, track: int | None) -> AudioStream:
        if str(getattr(source, "name", "")).endswith(("003.wav", "007.wav")):
            hang.wait(60)
        return stream_audio(source, sample_rate, track)

    monkeypatch.setattr("indexer.sources.item.stream_audio", load_or_hang)
    monkeypatch.setattr(decoding, "_OVERTAKE_AFTER_S", 0.1)
    index([write_tone(many.with_name("first.wav"))], database, ToneEncoder())
    ledger, _ = open_ledger(database, database.table())
    order = [
        Path(one.item.uri).name
        for one in prefetch_items(list_items([many]), ledger.known, DecodeConfig(16_000, timeout_s=3, workers=3))
        if isinstance(one, LoadedItem)
    ]
    assert sorted(order[-2:]) == ["003.wav", "007.wav"]

    summary = index([many], database, ToneEncoder(), timeout_s=1.5, workers=3)
    hang.set()
    assert (summary.indexed, summary.failed) == (98, 2)
    assert {failure["reason"] for failure in failures(database)} == {"not decoded within 1.5 s: allow more time"}


def test_what_was_asked_to_stop_commits_what_it_has_and_the_next_run_does_the_rest(
    many: Path, database: Database
) -> None:
    stop = threading.Event()

    class Stopped(ToneEncoder):
        def encode_audio(self, waveforms: Clips) -> npt.NDArray[np.float32]:
            stop.set()
            return super().encode_audio(waveforms)

    first = index([many], database, Stopped(), stop=stop, prune=True)
    assert first.stopped
    assert 0 < first.indexed == first.rows < 100
    second = index([many], database, ToneEncoder())
    assert (second.indexed, second.unchanged, second.stopped) == (100 - first.indexed, first.indexed, False)


def test_what_failed_is_not_tried_again_unless_touched_or_asked_for(
    recordings: Path, database: Database, encoder: ToneEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recordings / "bad.wav").write_text("no sound")
    os.utime(recordings / "bad.wav", (1.6e9, 1.6e9))
    tried: list[str] = []

    def load(source: AudioSource, sample_rate: int, track: int | None) -> AudioStream:
        tried.append(Path(str(getattr(source, "name", ""))).name)
        return stream_audio(source, sample_rate, track)

    monkeypatch.setattr("indexer.sources.item.stream_audio", load)
    assert index([recordings], database, encoder).failed == 1
    assert index([recordings], database, encoder).failed == 1
    assert tried.count("bad.wav") == 1
    index([recordings], database, encoder, retry_failed=True)
    assert tried.count("bad.wav") == 2
    write_tone(recordings / "bad.wav")
    assert index([recordings], database, encoder).indexed == 1
    assert failures(database) == []
