"""The list of recordings is that of today: made anew when anything changes, whole, by one process at a time."""

import hashlib
import http.server
import json
import logging
import multiprocessing
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clara_search.audio.decode import load_audio
from clara_search.errors import ConfigError, SourceError
from clara_search.files.network.access import trust
from tests.helpers import write_tone
from tests.trainer.conftest import write_clips
from tests.trainer.pretraining.test_run import RATE
from trainer.config.sections import DataConfig
from trainer.data.corpus import Corpus, load_corpus


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve `folder` by HTTP, and yield its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        trust(url)  # as if it was typed
        yield url
    finally:
        server.shutdown()
        server.server_close()


def add_in_subfolder(folder: Path) -> None:
    write_clips(folder / "sub", 2)


def edit_a_text(folder: Path) -> None:
    (folder / "00.json").write_text(json.dumps({"text": "another text"}))


def lengthen_a_recording(folder: Path) -> None:
    write_tone(folder / "00.wav", 300, 0.9, RATE)


def remove_a_recording(folder: Path) -> None:
    (folder / "00.wav").unlink()


def summary(corpus: Corpus) -> list[tuple[str, str, float]]:
    return [(x.key, x.text, corpus.duration_s(index)) for index, x in enumerate(corpus.examples)]


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("change", [add_in_subfolder, edit_a_text, lengthen_a_recording, remove_a_recording])
def test_a_folder_that_changes_is_listed_anew(tmp_path: Path, change: Callable[[Path], None], decode: bool) -> None:
    folder = write_clips(tmp_path / "clips", 4)
    (folder / "sub").mkdir()
    before = load_corpus([str(folder)], RATE, tmp_path, decode)
    assert load_corpus([str(folder)], RATE, tmp_path, decode).folder == before.folder
    (folder / "notes.md").write_text("of no concern")
    assert load_corpus([str(folder)], RATE, tmp_path, decode).folder == before.folder
    change(folder)
    after = load_corpus([str(folder)], RATE, tmp_path, decode)
    assert summary(after) != summary(before)
    assert summary(after) == summary(load_corpus([str(folder)], RATE, tmp_path / "afresh", decode))


@pytest.mark.parametrize("decode", [True, False])
def test_segments_of_a_manifest_are_cut(tmp_path: Path, decode: bool) -> None:
    soundfile.write(tmp_path / "a.wav", np.arange(4 * RATE) % 1000 / 2000, RATE, subtype="PCM_16")
    rows = ["a.wav,whole,,", "a.wav,middle,1.5,2", "a.wav,end,3.75,", "a.wav,behind,4,5"]
    (tmp_path / "m.csv").write_text("\n".join(["path,text,start_s,end_s", *rows]))
    corpus = load_corpus([str(tmp_path / "m.csv")], RATE, tmp_path / "cache", decode)
    whole = corpus.waveform(0)
    assert [(x.key, corpus.duration_s(n)) for n, x in enumerate(corpus.examples)] == [
        ("a.wav", 4.0),
        ("a.wav#t=1.5,2", 0.5),
        ("a.wav#t=3.75,", 0.25),
    ]
    assert np.array_equal(corpus.waveform(1), whole[3 * RATE // 2 : 2 * RATE])
    assert np.array_equal(corpus.waveform(2), whole[15 * RATE // 4 :])
    assert len(set(corpus.hashes)) == 3
    assert corpus.hashes[0] == hashlib.sha256((tmp_path / "a.wav").read_bytes()).hexdigest()
    left_out = (corpus.folder / "left-out.txt").read_text()
    assert left_out == "a.wav#t=4,5: starts at 4 s, but the recording lasts 4.00 s\n"


@pytest.mark.slow
def test_recordings_at_urls_are_read_whenever_they_are_wanted(tmp_path: Path) -> None:
    local = write_tone(tmp_path / "served" / "a.wav", 300, 0.5, RATE)
    with serving(tmp_path / "served") as url:
        (tmp_path / "m.ndjson").write_text(json.dumps({"url": f"{url}/a.wav", "text": "one", "end_s": 0.25}))
        corpus = load_corpus([str(tmp_path / "m.ndjson")], RATE, tmp_path / "cache", cache_decoded=False)
        assert (corpus.examples[0].audio, corpus.duration_s(0)) == (f"{url}/a.wav", 0.25)
        assert np.array_equal(corpus.waveform(0), load_audio(local, RATE)[: RATE // 4])
        signed = f"{url}/a.wav?X-Amz-Signature=0123secret"
        (tmp_path / "signed.csv").write_text(f"url,text\n{signed},one\n")
        for _ in range(2):  # listed, and then from the list
            again = load_corpus([str(tmp_path / "signed.csv")], RATE, tmp_path / "cache", cache_decoded=False)
            assert again.examples[0].audio == signed
            assert len(again.waveform(0)) == RATE // 2
    assert not [
        path for path in (tmp_path / "cache").rglob("*") if path.is_file() and b"0123secret" in path.read_bytes()
    ]
    listed = corpus.folder / "examples.jsonl"
    listed.write_text(listed.read_text().replace(f"{url}/a.wav", "reference://a.wav::http://127.0.0.1:9/leak.json"))
    with pytest.raises(SourceError, match="no recording can be read"):  # the list is refused, and made anew
        load_corpus([str(tmp_path / "m.ndjson")], RATE, tmp_path / "cache", cache_decoded=False)


def test_recordings_of_a_manifest_that_come_later_or_change_are_found(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav", 300, 0.2, RATE)
    (tmp_path / "m.csv").write_text("path,text\na.wav,one\nb.wav,two\n")
    sources = [str(tmp_path / "m.csv")]
    assert [x.text for x in load_corpus(sources, RATE, tmp_path).examples] == ["one"]
    write_tone(tmp_path / "b.wav", 500, 0.2, RATE)
    assert [x.text for x in load_corpus(sources, RATE, tmp_path).examples] == ["one", "two"]
    write_tone(tmp_path / "b.wav", 500, 0.7, RATE)
    assert load_corpus(sources, RATE, tmp_path).duration_s(1) == 0.7


def test_a_url_that_is_down_is_an_error_and_not_cached(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 4)
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)

    with serving(tmp_path) as url:
        pass
    with pytest.raises(SourceError, match=r"s\.tar: cannot be read \(Connect call failed"):
        load_corpus([f"{url}/s.tar"], RATE, tmp_path / "cache")
    with serving(tmp_path, int(url.rpartition(":")[2])):
        assert len(load_corpus([f"{url}/s.tar"], RATE, tmp_path / "cache")) == 4
        with pytest.raises(SourceError, match=r"none\.tar: cannot be read"):
            load_corpus([f"{url}/none.tar"], RATE, tmp_path / "cache")


def test_a_cached_list_cannot_name_a_shard_that_is_not_a_source(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 4)
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    before = load_corpus([str(tmp_path / "s.tar")], RATE, tmp_path / "cache", cache_decoded=False)
    listed = before.folder / "examples.jsonl"
    content = listed.read_text()
    listed.write_text(content.replace(str(tmp_path / "s.tar"), "reference://a.wav::http://127.0.0.1:9/leak.json"))
    after = load_corpus([str(tmp_path / "s.tar")], RATE, tmp_path / "cache", cache_decoded=False)
    assert {x.stored.path for x in after.examples if x.stored} == {str(tmp_path / "s.tar")}
    assert listed.read_text() == content


@pytest.mark.parametrize("name", ["examples.jsonl", "samples.i16"])
@pytest.mark.parametrize("keep", [0, 0.5, "a line"])
def test_a_damaged_list_is_made_anew(tmp_path: Path, name: str, keep: float | str) -> None:
    folder = write_clips(tmp_path / "clips", 4)
    before = load_corpus([str(folder)], RATE, tmp_path / "cache")
    expected = summary(before)
    damaged = before.folder / name
    content = damaged.read_bytes()
    del before
    cut = content.rindex(b"\n", 0, -1) + 1 if keep == "a line" and b"\n" in content else int(len(content) * 0.7)
    damaged.write_bytes(content[: cut if keep == "a line" else int(len(content) * float(keep))])
    again = load_corpus([str(folder)], RATE, tmp_path / "cache")
    assert summary(again) == expected
    assert damaged.read_bytes() == content


def listed(places: list[str], cache: Path) -> None:
    assert len(load_corpus(places, RATE, cache)) == 40


def test_processes_that_start_together_list_once(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 40)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=listed, args=([str(folder)], tmp_path / "cache")) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def test_a_source_that_is_named_twice_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_clips(tmp_path / "clips", 4)
    with caplog.at_level(logging.WARNING):
        assert len(load_corpus([str(folder), f"{folder}/../clips"], RATE, tmp_path)) == 4
    assert "is named twice and read once" in caplog.text


def test_sources_without_recordings_are_not_cached(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,text\nnone.wav,x\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"no recording can be read; .*left-out\.txt says why"):
        load_corpus([str(tmp_path / "m.csv")], RATE, tmp_path)
    with pytest.raises(SourceError, match=r"no recording can be read; .*empty: none found"):
        load_corpus([str(tmp_path / "empty")], RATE, tmp_path)
    assert not list(tmp_path.glob("*/examples.jsonl*"))


def test_a_recipe_names_the_columns_of_its_manifests_and_captions_are_alternatives(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 2)
    rows = "00.wav;the first\n01.wav;another\n00.wav;again the first\n01.wav;another\nbroken\n"
    (folder / "m.csv").write_text("take;phrase\n" + rows)
    data = DataConfig(path_column="take", columns={"caption": "phrase"})
    corpus = load_corpus([str(folder / "m.csv")], RATE, tmp_path, columns=data.manifest_columns)
    assert [(x.key, x.text, x.alternatives) for x in corpus.examples] == [
        ("00.wav", "the first", ("again the first",)),
        ("01.wav", "another", ()),
    ]
    assert "line 6: 1 cells, but 2 columns" in (corpus.folder / "left-out.txt").read_text()
    with pytest.raises(ConfigError, match="no column 'text', as `text_column` says"):
        load_corpus([str(folder / "m.csv")], RATE, tmp_path, columns=DataConfig(text_column="text").manifest_columns)
