import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from clara_search.audio.decode import load_audio
from clara_search.datasets.labelled import Clip, read_clips
from clara_search.errors import AudioError, FormatError, OutputError
from clara_search.models.windows import mean_embedding
from tests.helpers import ToneEncoder, write_tone
from trainer.embeddings.cache import embed_clips
from trainer.embeddings.extract import EncoderSpec
from trainer.embeddings.store import EmbeddingStore
from trainer.runtime.threads import torch_threads


def model(encoder: ToneEncoder) -> EncoderSpec:
    return EncoderSpec(encoder.name, encoder.fingerprint, encoder.dim, lambda: encoder)


def tones(folder: Path, count: int) -> list[Clip]:
    """Return tones whose files are old: the time of a young file is not trusted."""
    clips = [
        Clip(f"{n}.wav", write_tone(folder / f"{n}.wav", 100 + 37 * n, 0.05), {"text": f"tone {n}", "language": "en"})
        for n in range(count)
    ]
    for clip in clips:
        os.utime(clip.audio, (1, 1))  # type: ignore[arg-type]
    return clips


def test_vectors_are_those_of_the_encoder_and_computed_once(tmp_path: Path, encoder: ToneEncoder) -> None:
    clips = tones(tmp_path, 20)
    first = embed_clips(clips, model(encoder), tmp_path / "cache", texts=True)
    assert (first.num_computed, encoder.clips_encoded, encoder.texts_encoded) == (40, 20, 20)
    expected = encoder.encode_audio([load_audio(clip.audio, encoder.sample_rate) for clip in clips])  # type: ignore[arg-type]
    assert np.array_equal(first.audio, expected)
    assert first.text is not None
    assert np.array_equal(first.text, encoder.encode_text([clip.text for clip in clips], "en"))

    def never() -> ToneEncoder:
        raise AssertionError("nothing is to be embedded: the model must not be loaded")

    cached = EncoderSpec(encoder.name, encoder.fingerprint, encoder.dim, never)
    second = embed_clips(clips, cached, tmp_path / "cache", texts=True)
    assert second.num_computed == 0
    assert np.array_equal(second.audio, first.audio)


def test_segments_of_a_recording_are_cut_and_have_vectors_of_their_own(tmp_path: Path, encoder: ToneEncoder) -> None:
    low, high = (load_audio(write_tone(tmp_path / f"{hz}.wav", hz, 1.0), encoder.sample_rate) for hz in (200, 5000))
    soundfile.write(tmp_path / "both.wav", np.concatenate([low, high]), encoder.sample_rate, subtype="PCM_16")
    os.utime(tmp_path / "both.wav", (1, 1))
    (tmp_path / "m.csv").write_text("path,start_s,end_s\nboth.wav,,1\nboth.wav,1,\nboth.wav,,\nboth.wav,2,3\n")
    clips = read_clips(tmp_path / "m.csv")
    embedded = embed_clips(clips, model(encoder), tmp_path / "cache")
    assert np.allclose(embedded.audio[:2], encoder.encode_audio([low, high]), atol=1e-3)
    assert len(set(embedded.hashes)) == 3
    assert embedded.problems == ["both.wav#t=2,3: starts at 2 s, but the recording lasts 2.00 s"]
    again = embed_clips(clips[:3], model(encoder), tmp_path / "cache")
    assert (again.num_computed, again.hashes) == (0, embedded.hashes)
    assert np.array_equal(again.audio, embedded.audio)


def test_the_cache_tells_files_by_content_and_models_by_fingerprint(tmp_path: Path, encoder: ToneEncoder) -> None:
    clips = tones(tmp_path, 3)
    embed_clips(clips, model(encoder), tmp_path / "cache")
    os.utime(clips[0].audio, (2, 2))  # type: ignore[arg-type]
    copy = tmp_path / "copy.wav"
    copy.write_bytes(clips[1].audio.read_bytes())  # type: ignore[union-attr]
    again = embed_clips([*clips, Clip("copy.wav", copy, {})], model(encoder), tmp_path / "cache")
    assert again.num_computed == 0
    assert again.hashes[3] == again.hashes[1]
    write_tone(tmp_path / "0.wav", 3000, 0.05)
    assert embed_clips(clips, model(encoder), tmp_path / "cache").num_computed == 1
    assert embed_clips(clips, model(ToneEncoder("2")), tmp_path / "cache").num_computed == 3
    assert embed_clips(clips, model(encoder), tmp_path / "cache", window_s=0.02, hop_s=0.01).num_computed == 3


def test_an_unreadable_recording_is_left_out_alone(tmp_path: Path, encoder: ToneEncoder) -> None:
    clips = tones(tmp_path, 9)
    (tmp_path / "3.wav").write_bytes(b"broken")
    (tmp_path / "5.wav").unlink()
    embedded = embed_clips(clips, model(encoder), tmp_path / "cache")
    assert embedded.indices == [0, 1, 2, 4, 6, 7, 8]
    assert (
        embedded.problems[0] == "3.wav: not a recording that can be decoded (Invalid data found when processing input)"
    )
    assert len(embedded.audio) == 7
    assert [problem.split(":")[0] for problem in embedded.problems] == ["3.wav", "5.wav"]
    assert "No such file" in embedded.problems[1]


def test_a_recording_that_the_encoder_refuses_is_left_out_alone(tmp_path: Path, encoder: ToneEncoder) -> None:
    class Picky(ToneEncoder):
        def encode_audio(self, waveforms):  # type: ignore[no-untyped-def]
            if any(len(waveform) == 1600 for waveform in waveforms):
                raise AudioError("not that one")
            return super().encode_audio(waveforms)

    clips = tones(tmp_path, 5)
    write_tone(tmp_path / "2.wav", 500, 0.1)
    embedded = embed_clips(clips, model(Picky()), tmp_path / "cache")
    assert embedded.indices == [0, 1, 3, 4]
    assert embedded.problems == ["2.wav: not that one"]


def test_a_recording_that_does_not_fit_into_memory_is_left_out_alone(tmp_path: Path) -> None:
    class Small(ToneEncoder):
        def encode_audio(self, waveforms):  # type: ignore[no-untyped-def]
            if sum(map(len, waveforms)) > 4000:
                raise MemoryError
            return super().encode_audio(waveforms)

    clips = tones(tmp_path, 9)
    write_tone(tmp_path / "4.wav", 500, 1.0)
    embedded = embed_clips(clips, model(Small()), tmp_path / "cache")
    assert embedded.indices == [0, 1, 2, 3, 5, 6, 7, 8]
    assert embedded.problems == ["4.wav: does not fit into memory"]


def test_a_file_is_not_read_again_while_its_size_and_time_stay(tmp_path: Path, encoder: ToneEncoder) -> None:
    clips = tones(tmp_path, 2)
    hashes = embed_clips(clips, model(encoder), tmp_path / "cache").hashes
    for clip in clips:
        size = clip.audio.stat().st_size  # type: ignore[union-attr]
        clip.audio.write_bytes(b"x" * size)  # type: ignore[union-attr]
        os.utime(clip.audio, (1, 1))  # type: ignore[arg-type]
    assert embed_clips(clips, model(encoder), tmp_path / "cache").hashes == hashes
    os.utime(clips[0].audio, (2, 2))  # type: ignore[arg-type]
    changed = embed_clips(clips, model(encoder), tmp_path / "cache")
    assert (changed.indices, changed.hashes) == ([1], hashes[1:])


@pytest.mark.slow
def test_vectors_computed_before_a_crash_are_used_after_it(tmp_path: Path) -> None:
    class Crashing(ToneEncoder):
        def encode_audio(self, waveforms):  # type: ignore[no-untyped-def]
            if self.clips_encoded >= 512:
                raise KeyError("crash")
            return super().encode_audio(waveforms)

    clips = tones(tmp_path, 600)
    with pytest.raises(KeyError):
        embed_clips(clips, model(Crashing()), tmp_path / "cache")
    after = ToneEncoder()
    assert embed_clips(clips, model(after), tmp_path / "cache").num_computed == 600 - 512
    assert after.clips_encoded == 600 - 512


def test_a_store_that_was_written_in_part_gives_whole_vectors_only(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, 4)
    digests = [bytes([n]) * 32 for n in range(3)]
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    store.add(digests, vectors)
    with (tmp_path / "vectors.f32").open("ab") as file:
        file.write(b"half a vector")
    with (tmp_path / "keys.sha256").open("ab") as file:
        file.write(b"half a key")
    again = EmbeddingStore(tmp_path, 4)
    assert len(again) == 3
    again.add([b"\xff" * 32], np.ones((1, 4), np.float32))
    assert np.array_equal(EmbeddingStore(tmp_path, 4).vectors([digests[2], b"\xff" * 32]), [vectors[2], [1, 1, 1, 1]])


def test_the_vector_of_a_long_recording_is_the_mean_of_its_windows(tmp_path: Path, encoder: ToneEncoder) -> None:
    path = write_tone(tmp_path / "long.wav", 400, 0.25)
    embedded = embed_clips([Clip("long.wav", path, {})], model(encoder), tmp_path / "cache", window_s=0.1, hop_s=0.1)
    waveform = load_audio(path, encoder.sample_rate)
    parts = [waveform[:1600], waveform[1600:3200], waveform[2400:4000]]
    assert np.allclose(embedded.audio[0], mean_embedding(encoder.encode_audio(parts)))


def test_shards_are_embedded_without_being_unpacked(tmp_path: Path, encoder: ToneEncoder) -> None:
    from trainer.data.shards import write_shards

    write_tone(tmp_path / "a.wav", 300, 0.1)
    write_tone(tmp_path / "b.wav", 900, 0.1)
    (tmp_path / "m.csv").write_text("path,text,label\na.wav,one,x\nb.wav,two,y\n")
    write_shards(str(tmp_path / "m.csv"), tmp_path / "shards", 10, 16000)
    clips = read_clips(str(tmp_path / "shards" / "*.tar"))
    assert [clip.value("label") for clip in clips] == ["x", "y"]
    embedded = embed_clips(clips, model(encoder), tmp_path / "cache")
    direct = encoder.encode_audio([load_audio(tmp_path / f"{name}.wav", 16000) for name in "ab"])
    assert np.allclose(embedded.audio, direct, atol=1e-4)
    assert embed_clips(clips, model(encoder), tmp_path / "cache").num_computed == 0


def test_parallel_threads_give_the_vectors_of_a_single_thread(tmp_path: Path, encoder: ToneEncoder) -> None:
    clips = [clip for clip in tones(tmp_path, 40) for _ in range(2)]  # each recording twice
    clips[7] = Clip("none.wav", tmp_path / "none.wav", {})
    before = torch.get_num_threads()
    with torch_threads(3):
        at_once = replace(model(encoder), parallel=True)
        embedded = embed_clips(clips, at_once, tmp_path / "three")
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before
    alone = embed_clips(clips, model(encoder), tmp_path / "one")
    assert embedded.indices == alone.indices == [n for n in range(80) if n != 7]
    assert embedded.hashes == alone.hashes
    assert np.array_equal(embedded.audio, alone.audio)
    assert embedded.problems == ["none.wav: No such file or directory"]
    assert embedded.num_computed == 40


def test_each_parallel_thread_computes_on_one_core(tmp_path: Path) -> None:
    class Counting(ToneEncoder):
        def encode_audio(self, waveforms):  # type: ignore[no-untyped-def]
            counts.append(torch.get_num_threads())
            return super().encode_audio(waveforms)

    counts: list[int] = []
    with torch_threads(2):
        embed_clips(tones(tmp_path, 9), replace(model(Counting()), parallel=True), tmp_path / "a")
        assert set(counts) == {1}
        counts.clear()
        embed_clips(tones(tmp_path, 9), model(Counting()), tmp_path / "b")
        assert set(counts) == {2}


@pytest.mark.parametrize(
    "line", ["null", "7", "[]", '["a", 0, 1, "2", 3]', '["a", 0, 1, "2", "zz"]', '["a", 0, 1, "2", "00"]', "{"]
)
def test_a_broken_line_in_the_list_of_hashes_is_ignored(line: str, tmp_path: Path, encoder: ToneEncoder) -> None:
    clips = tones(tmp_path, 3)
    embed_clips(clips, model(encoder), tmp_path / "cache")
    with (tmp_path / "cache" / "file-hashes.jsonl").open("ab") as file:
        file.write(line.encode() + b"\n\xff\xfe\n")
    assert embed_clips(clips, model(encoder), tmp_path / "cache").num_computed == 0


def test_broken_vectors_and_an_unusable_cache_are_one_line(tmp_path: Path, encoder: ToneEncoder) -> None:
    clips = tones(tmp_path, 3)
    embed_clips(clips, model(encoder), tmp_path / "cache")
    (values,) = (tmp_path / "cache").rglob("vectors.f32")
    for content in (b"\0" * values.stat().st_size, b"\xff" * values.stat().st_size):
        values.write_bytes(content)
        with pytest.raises(FormatError, match="holds broken vectors; delete that folder"):
            embed_clips(clips, model(encoder), tmp_path / "cache")
    values.unlink()
    values.mkdir()
    with pytest.raises(OutputError, match="the cache cannot be used"):
        embed_clips(clips, model(encoder), tmp_path / "cache")


@pytest.mark.slow
def test_a_killed_run_loses_at_most_the_batches_in_progress(tmp_path: Path) -> None:
    clips = tones(tmp_path, 60)
    program = f"""
import os, signal
from pathlib import Path
from tests.helpers import ToneEncoder
from trainer.embeddings import extract
from trainer.embeddings.extract import EncoderSpec
from trainer.embeddings.cache import embed_clips
from clara_search.datasets.labelled import Clip
extract.BATCH_WINDOWS = 10
class Killed(ToneEncoder):
    def encode_audio(self, waveforms):
        if self.clips_encoded >= 30:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_audio(waveforms)
encoder, folder = Killed(), Path({str(tmp_path)!r})
clips = [Clip(f"{{n}}.wav", folder / f"{{n}}.wav", {{}}) for n in range(60)]
embed_clips(clips, EncoderSpec(encoder.name, encoder.fingerprint, encoder.dim, lambda: encoder), folder / "cache")
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    after = ToneEncoder()
    embedded = embed_clips(clips, model(after), tmp_path / "cache")
    # The last of the three batches may not have been written yet when the fourth began.
    assert 30 <= after.clips_encoded <= 40
    assert np.array_equal(embedded.audio, embed_clips(clips, model(ToneEncoder()), tmp_path / "other").audio)
