from pathlib import Path

import pytest
import soundfile

from clara_search.datasets.declarations.catalogue import DATASETS
from clara_search.datasets.labelled import read_clips
from clara_search.datasets.readers import read_examples
from clara_search.errors import SourceError
from tests.clara_search.datasets.published import PUBLISHED
from tests.clara_search.datasets.published_captions import PUBLISHED_CAPTIONS
from tests.helpers import write_tone
from trainer.data.prepare import MANIFEST_FILE, SKIPPED_FILE, prepare

MELD = DATASETS["meld"]


def test_a_collection_becomes_a_manifest_and_flac_of_one_rate(tmp_path: Path) -> None:
    done = prepare(MELD, PUBLISHED["meld"].write(tmp_path / "src"), tmp_path / "out", rate=8000)
    assert (done.listed, done.converted, done.skipped) == (3, 3, 0)
    clips = read_clips(done.manifest)
    assert [clip.split for clip in clips] == ["valid", "test", "train"]
    assert clips[2].text == "Oh my God, he\u2019s lost it."
    assert clips[2].source == "meld"
    info = soundfile.info(clips[2].audio)  # type: ignore[arg-type]
    assert (info.samplerate, info.channels, info.format, info.frames) == (8000, 1, "FLAC", 800)


def test_unchanged_recordings_are_not_converted_again(tmp_path: Path) -> None:
    source, out = PUBLISHED["meld"].write(tmp_path / "src"), tmp_path / "out"
    prepare(MELD, source, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    assert prepare(MELD, source, out).converted == 0
    write_tone(source / "new.wav", 900, duration_s=0.2).replace(source / "train_splits" / "dia0_utt0.mp4")
    assert prepare(MELD, source, out).converted == 1
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    assert sum(after[path] != before[path] for path in before) == 1
    assert prepare(MELD, source, out, rate=8000).converted == 3


def test_a_run_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    source, out = PUBLISHED["meld"].write(tmp_path / "src"), tmp_path / "out"
    prepare(MELD, source, out)
    journal = out / ".prepared.jsonl"
    journal.write_text(
        journal.read_text().splitlines()[1] + '\n{"target": "aud'
    )  # killed while it wrote the second line
    (out / MANIFEST_FILE).unlink()
    assert prepare(MELD, source, out).converted == 2
    assert prepare(MELD, source, out).converted == 0
    assert len(read_clips(out / MANIFEST_FILE)) == 3


def test_missing_and_broken_recordings_are_listed_with_their_reason(tmp_path: Path) -> None:
    source, out = PUBLISHED["meld"].write(tmp_path / "src"), tmp_path / "out"
    (source / "train_splits" / "dia0_utt0.mp4").write_bytes(b"no film")
    (source / "dev_splits_complete" / "dia0_utt0.mp4").unlink()
    done = prepare(MELD, source, out)
    assert (done.listed, done.skipped) == (1, 2)
    absent, broken = (out / SKIPPED_FILE).read_text().splitlines()
    assert absent.endswith("dia0_utt0.mp4: there is no such file")
    assert "not a recording that can be decoded" in broken
    assert "dia0_utt0.mp4" in broken


def test_nothing_usable_is_an_error_that_says_where_to_look(tmp_path: Path) -> None:
    source = PUBLISHED["esc-50"].write(tmp_path / "src")
    for path in (source / "audio").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SourceError, match=r"no recording of esc-50 can be used; .*left-out\.txt says why"):
        prepare(DATASETS["esc-50"], source, tmp_path / "out")


def test_files_that_differ_by_their_suffix_alone_stay_two(tmp_path: Path) -> None:
    source = PUBLISHED["audioset"].write(tmp_path / "src")
    write_tone(source / "a.flac", 2000, duration_s=0.3)
    done = prepare(DATASETS["audioset"], source, tmp_path / "out")
    assert done.listed == 3
    assert len({clip.audio for clip in read_clips(done.manifest)}) == 3  # type: ignore[misc]


def test_a_recording_with_several_captions_is_converted_once_and_keeps_them_all(tmp_path: Path) -> None:
    done = prepare(DATASETS["clotho"], PUBLISHED_CAPTIONS["clotho"].write(tmp_path / "src"), tmp_path / "out")
    assert (done.listed, done.converted) == (3, 3)
    examples = list(read_examples(done.manifest))
    assert [len((x.text, *x.alternatives)) for x in examples] == [5, 5, 5]
    assert {x.split for x in examples} == {"train", "valid", "test"}
