"""Recordings become rows once, stay up to date, and a bad file costs itself alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from clara_search.audio.decode import AudioSource, AudioStream, load_audio, stream_audio
from clara_search.audio.windows import crop, window_spans
from clara_search.errors import AudioError, ConfigError, DatabaseError, EncoderMismatch, SourceError
from clara_search.models.recorded import RecordedModel
from clara_search.store.database import Database
from indexer.embed import batches as embedding
from indexer.ledger.failures import failures
from indexer.pipeline import IndexResult, index
from indexer.sources.item import Item
from indexer.write import writer as writing
from tests.helpers import ToneEncoder, band_energies, write_tone


def counts(summary: IndexResult) -> tuple[int, int, int, int, int]:
    """Indexed, unchanged, failed, removed, rows."""
    return astuple(summary)[:5]


def age(folder: Path) -> None:
    """Make all files look written a minute ago: a file as young as a test's is never taken for untouched."""
    for path in folder.rglob("*.*"):
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 60 * 10**9))


def rows_by_name(database: Database, table: str = "corpus") -> dict[str, list[tuple[float, float]]]:
    spans_by_name: dict[str, list[tuple[float, float]]] = {}
    for row in database.table(table).scan(["uri", "start_s", "end_s"]).to_pylist():
        spans_by_name.setdefault(Path(row["uri"]).name, []).append((row["start_s"], row["end_s"]))
    return {name: sorted(spans) for name, spans in sorted(spans_by_name.items())}


def test_every_window_has_the_vector_of_its_own_sound(tmp_path: Path, database: Database, encoder: ToneEncoder) -> None:
    for number, duration_s in enumerate((0.3, 4.0, 25.0, 9.0, 12.5)):
        write_tone(tmp_path / "a" / f"{number}.wav", 200.0 * (number + 1), duration_s)
    summary = index([tmp_path / "a"], database, encoder)
    table = database.table()
    ids, vectors = table.ids_and_vectors()
    rows = table.rows(ids)
    assert counts(summary) == (5, 0, 0, 0, len(rows))
    assert summary.audio_s == pytest.approx(0.3 + 4 + 25 + 9 + 12.5, abs=0.01)
    for row, vector in zip(rows, vectors, strict=True):
        waveform = load_audio(row["uri"], encoder.sample_rate)
        spans = list(window_spans(len(waveform) / encoder.sample_rate, 10, 5))
        (span,) = [span for span in spans if span == (row["start_s"], row["end_s"])]
        np.testing.assert_allclose(vector, band_energies(crop(waveform, span, encoder.sample_rate)), atol=1e-5)
    assert rows_by_name(database)["2.wav"] == [(0, 10), (5, 15), (10, 20), (15, 25)]


def test_the_same_command_twice_embeds_nothing(recordings: Path, database: Database, encoder: ToneEncoder) -> None:
    assert counts(index([recordings], database, encoder)) == (3, 0, 0, 0, 3)
    version = database.table().version
    assert counts(index([recordings], database, encoder)) == (0, 3, 0, 0, 3)
    age(recordings)
    assert counts(index([recordings], database, encoder)) == (0, 3, 0, 0, 3)
    assert encoder.clips_encoded == 3
    assert database.table().version == version


def test_an_untouched_file_is_not_even_read(
    recordings: Path, database: Database, encoder: ToneEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(recordings)
    index([recordings], database, encoder)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"read {path}"))
    assert counts(index([recordings], database, encoder)) == (0, 3, 0, 0, 3)


def test_a_changed_file_replaces_its_rows(tmp_path: Path, database: Database, encoder: ToneEncoder) -> None:
    path = write_tone(tmp_path / "a" / "x.wav", 300, duration_s=22)
    write_tone(tmp_path / "a" / "y.wav", 300)
    index([tmp_path / "a"], database, encoder)
    assert len(rows_by_name(database)["x.wav"]) == 4
    write_tone(path, 4000, duration_s=12)
    assert counts(index([tmp_path / "a"], database, encoder)) == (1, 1, 0, 3, 3)
    assert rows_by_name(database)["x.wav"] == [(0, 10), (2, 12)]
    _, vectors = database.table().ids_and_vectors("uri LIKE '%x.wav'")
    np.testing.assert_allclose(vectors[0], band_energies(load_audio(path, 16_000)), atol=0.02)


def test_a_file_that_became_unusable_loses_its_rows(recordings: Path, database: Database, encoder: ToneEncoder) -> None:
    index([recordings], database, encoder)
    (recordings / "low.wav").write_text("no longer sound")
    assert counts(index([recordings], database, encoder)) == (0, 2, 1, 1, 2)
    write_tone(recordings / "low.wav", 200)
    assert counts(index([recordings], database, encoder)) == (1, 2, 0, 0, 3)
    assert failures(database) == []


def test_pruning_removes_what_is_gone_or_renamed_and_nothing_else(
    tmp_path: Path, recordings: Path, database: Database, encoder: ToneEncoder
) -> None:
    elsewhere = write_tone(tmp_path / "elsewhere" / "kept.wav", 800)
    index([recordings, elsewhere.parent], database, encoder)
    (recordings / "low.wav").rename(recordings / "renamed.wav")
    (recordings / "middle.flac").unlink()
    shutil.rmtree(elsewhere.parent)
    # What was renamed takes its row along; what is gone stays until it is pruned.
    assert counts(index([recordings], database, encoder)) == (1, 1, 0, 1, 4)
    assert counts(index([recordings], database, encoder, prune=True)) == (0, 2, 0, 1, 3)
    assert list(rows_by_name(database)) == ["high.ogg", "kept.wav", "renamed.wav"]


def test_bad_files_are_stepped_over_with_reasons(tmp_path: Path, database: Database, encoder: ToneEncoder) -> None:
    folder = tmp_path / "mixed"
    write_tone(folder / "good.wav")
    truncated = write_tone(folder / "truncated.mp3", duration_s=20)
    truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size // 3])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is no sound")
    not_finite = np.array([0.0, np.nan], np.float32)
    import soundfile

    soundfile.write(folder / "nan.wav", not_finite, 16_000, subtype="FLOAT")
    soundfile.write(folder / "silent.wav", np.zeros(0, np.float32), 16_000)
    summary = index([folder], database, encoder)
    assert counts(summary) == (1, 0, 5, 0, 1)
    reasons = {Path(failure["uri"]).name: failure["reason"] for failure in failures(database)}
    assert "truncated" in reasons["truncated.mp3"]
    assert "empty" in reasons["empty.wav"]
    assert "not a recording" in reasons["text.wav"]
    assert "not finite" in reasons["nan.wav"]
    assert "no samples" in reasons["silent.wav"]
    assert not any(str(folder) in reason for reason in reasons.values())
    assert counts(index([folder], database, encoder)) == (0, 1, 5, 0, 1)
    (folder / "text.wav").unlink()
    index([folder], database, encoder)
    assert "text.wav" not in {Path(failure["uri"]).name for failure in failures(database)}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_stepped_over_and_keeps_its_rows(
    recordings: Path, database: Database, encoder: ToneEncoder
) -> None:
    index([recordings], database, encoder)
    (recordings / "low.wav").chmod(0)
    os.utime(recordings / "low.wav")
    assert counts(index([recordings], database, encoder, prune=True)) == (0, 2, 1, 0, 3)


def test_a_file_that_cannot_be_read_for_now_keeps_its_rows(
    recordings: Path, database: Database, encoder: ToneEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    index([recordings], database, encoder)
    open_file = os.open

    def refuse(path: str | Path, *arguments: int, **options: int) -> int:
        if str(path).endswith("low.wav"):
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    os.utime(recordings / "low.wav")
    assert counts(index([recordings], database, encoder, prune=True)) == (0, 2, 1, 0, 3)
    assert [failure["reason"] for failure in failures(database)] == ["Permission denied"]
    monkeypatch.undo()
    assert counts(index([recordings], database, encoder)) == (1, 2, 0, 0, 3)


def test_a_decoder_that_crashes_costs_one_file(
    recordings: Path, database: Database, encoder: ToneEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(source: AudioSource, sample_rate: int, track: int | None) -> AudioStream:
        if str(getattr(source, "name", "")).endswith("low.wav"):
            raise ZeroDivisionError("a bug")
        return stream_audio(source, sample_rate, track)

    monkeypatch.setattr("indexer.sources.item.stream_audio", crash)
    assert counts(index([recordings], database, encoder)) == (2, 0, 1, 0, 2)
    assert [failure["reason"] for failure in failures(database)] == ["ZeroDivisionError: a bug"]


def test_an_encoder_that_refuses_a_clip_costs_one_file(recordings: Path, database: Database) -> None:
    class Fastidious(ToneEncoder):
        def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
            vectors = super().encode_audio(waveforms)
            if (vectors.argmax(axis=1) > 12).any():
                raise AudioError("too shrill")
            return vectors

    assert counts(index([recordings], database, Fastidious())) == (2, 0, 1, 0, 2)
    assert [(Path(one["uri"]).name, one["reason"]) for one in failures(database)] == [("high.ogg", "too shrill")]


def test_a_vector_that_is_not_finite_never_reaches_the_table(recordings: Path, database: Database) -> None:
    class Broken(ToneEncoder):
        def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
            return super().encode_audio(waveforms) * np.float32(np.nan)

    assert counts(index([recordings], database, Broken())) == (0, 0, 3, 0, 0)


def test_another_encoder_or_other_windows_are_refused(
    recordings: Path, database: Database, encoder: ToneEncoder
) -> None:
    index([recordings], database, encoder, window_s=4, hop_s=2)
    assert counts(index([recordings], database, encoder)) == (0, 3, 0, 0, 3)
    with pytest.raises(DatabaseError, match="windows of 4 s every 2 s, not of 10 s every 2 s"):
        index([recordings], database, encoder, window_s=10)
    with pytest.raises(EncoderMismatch, match="'corpus' was built by tone"):
        index([recordings], database, ToneEncoder(version="2"))
    with pytest.raises(ConfigError, match="hop"):
        index([recordings], database, encoder, table="other", window_s=2, hop_s=3)


def test_an_empty_folder_is_an_error(tmp_path: Path, database: Database, encoder: ToneEncoder) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SourceError, match="nothing: no recordings found"):
        index([tmp_path / "nothing"], database, encoder)


def test_a_deleted_table_is_built_again(recordings: Path, database: Database, encoder: ToneEncoder) -> None:
    index([recordings], database, encoder)
    database.lance.drop_table("corpus")
    assert counts(index([recordings], database, encoder)) == (3, 0, 0, 0, 3)


def test_an_interrupted_run_keeps_what_was_embedded_and_the_next_does_the_rest(
    tmp_path: Path, database: Database, encoder: ToneEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_BATCH_WINDOWS", 32)

    class Interrupted(ToneEncoder):
        def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
            if len(self.batch_sizes) == 2:
                raise KeyboardInterrupt
            return super().encode_audio(waveforms)

    for number in range(100):
        write_tone(tmp_path / "many" / f"{number:03}.wav", 100 + 50 * number, duration_s=0.1)
    interrupted = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        index([tmp_path / "many"], database, interrupted)
    kept = database.table().count()
    assert kept == interrupted.clips_encoded == 64
    assert counts(index([tmp_path / "many"], database, encoder)) == (100 - kept, kept, 0, 0, 100)
    assert encoder.clips_encoded == 100 - kept


def test_progress_is_told_of_every_item_once(
    recordings: Path, database: Database, encoder: ToneEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_COMMIT_ROWS", 2)
    (recordings / "bad.wav").write_text("bad")
    reported: list[tuple[str, str]] = []

    def note(item: Item, status: str) -> None:
        reported.append((Path(item.uri).name, status))

    index([recordings], database, encoder, progress=note)
    index([recordings], database, encoder, progress=note)
    names = ["high.ogg", "low.wav", "middle.flac"]
    expected = [("bad.wav", "failed")] * 2 + [(name, status) for status in ("indexed", "unchanged") for name in names]
    assert sorted(reported) == sorted(expected)


def test_a_pipe_is_stepped_over(recordings: Path, database: Database, encoder: ToneEncoder) -> None:
    os.mkfifo(recordings / "pipe.wav")
    assert counts(index([recordings], database, encoder)) == (3, 0, 1, 0, 3)
    assert "pipe" in failures(database, "corpus")[0]["reason"]


def test_windows_that_leave_gaps_are_refused(recordings: Path, database: Database, encoder: ToneEncoder) -> None:
    with pytest.raises(ConfigError, match="need 0 < hop <= window"):
        index([recordings], database, encoder, hop_s=20.0)


def test_without_an_encoder_the_model_of_the_table_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str | RecordedModel] = []

    def load(model: str | RecordedModel, device: str | None) -> ToneEncoder:
        loaded.append(model)
        return ToneEncoder()

    monkeypatch.setattr("indexer.write.table.load_encoder", load)
    write_tone(tmp_path / "in" / "a.wav")
    index([tmp_path / "in"], tmp_path / "db", ToneEncoder())
    assert index([tmp_path / "in"], tmp_path / "db").unchanged == 1
    index([tmp_path / "in"], tmp_path / "db", table="new")
    assert loaded == [RecordedModel(ToneEncoder().name, ToneEncoder().fingerprint), "clara-small"]
