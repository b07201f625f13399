from pathlib import Path

import pytest

from clara_search.datasets.declarations.catalogue import DATASETS, find_dataset, same_source
from clara_search.datasets.labelled import read_clips
from clara_search.datasets.layouts import read_dataset
from clara_search.errors import ConfigError, FormatError, SourceError
from tests.clara_search.datasets.published import MELD_HEADER
from tests.clara_search.datasets.published import PUBLISHED as LABELLED
from tests.clara_search.datasets.published_captions import PUBLISHED_CAPTIONS
from tests.helpers import write_tone

PUBLISHED = {**LABELLED, **PUBLISHED_CAPTIONS}


@pytest.mark.parametrize("name", DATASETS)
def test_a_collection_is_read_as_it_is_published(name: str, tmp_path: Path) -> None:
    published, dataset = PUBLISHED[name], DATASETS[name]
    rows = list(read_dataset(dataset, published.write(tmp_path)))
    found = {row.audio.relative_to(tmp_path).as_posix() for row in rows if row.audio}
    assert sorted(found) == sorted(published.audio)
    assert len(rows) == len(published.audio) * max(len(dataset.captions), 1)
    first = next(row for row in rows if row.audio == tmp_path / published.audio[0])
    assert dict(first.columns) == {"language": dataset.language, "source": name, **published.first}
    assert set(dataset.labels) <= set(first.columns)
    splits = {row.columns.get("split") for row in rows}
    assert splits in ({None}, {"train", "test"}, {"train", "valid", "test"})


@pytest.mark.parametrize("name", ["ravdess", "crema-d", "emov-db"])
def test_collections_without_folds_get_some_that_no_speaker_stands_in_twice(name: str, tmp_path: Path) -> None:
    rows = list(read_dataset(DATASETS[name], PUBLISHED[name].write(tmp_path)))
    folds = {row.columns["speaker"]: row.columns["fold"] for row in rows}
    assert len(folds) == 3
    assert len(set(folds.values())) == 3


def test_folds_of_ravdess_mix_men_and_women(tmp_path: Path) -> None:
    for actor in range(1, 25):
        write_tone(tmp_path / f"Actor_{actor:02}" / f"03-01-01-01-01-01-{actor:02}.wav", 300, duration_s=0.01)
    rows = list(read_dataset(DATASETS["ravdess"], tmp_path))
    for fold in "12345":
        assert {row.columns["gender"] for row in rows if row.columns["fold"] == fold} == {"male", "female"}


def test_splits_of_meld_never_take_a_file_of_another_split(tmp_path: Path) -> None:
    published = PUBLISHED["meld"].write(tmp_path)
    (published / "output_repeated_splits_test" / "dia0_utt0.mp4").unlink()
    rows = {row.columns["split"]: row for row in read_dataset(DATASETS["meld"], published)}
    assert rows["test"].audio is None
    assert rows["train"].audio == tmp_path / "train_splits" / "dia0_utt0.mp4"


def test_meld_may_have_a_folder_a_split(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        write_tone(tmp_path / split / "dia3_utt1.wav").rename(tmp_path / split / "dia3_utt1.mp4")
        (tmp_path / split / f"{split}_sent_emo.csv").write_text(MELD_HEADER + "1,Hi,Ross,joy,positive,3,1,1,1,a,b\n")
    rows = list(read_dataset(DATASETS["meld"], tmp_path))
    assert [row.audio and row.audio.parent.name for row in rows] == ["dev", "test", "train"]


def test_what_is_not_there_or_laid_out_otherwise_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        list(read_dataset(DATASETS["meld"], tmp_path / "none"))
    with pytest.raises(SourceError, match="not laid out as meld"):
        list(read_dataset(DATASETS["meld"], tmp_path))
    (tmp_path / "train_sent_emo.csv").write_text("Utterance,Dialogue_ID,Utterance_ID\nHi,0,0\n")
    with pytest.raises(FormatError, match=r"no column 'Speaker'; it has .*Utterance"):
        list(read_dataset(DATASETS["meld"], tmp_path))
    with pytest.raises(ConfigError, match=r"no dataset 'melt'; there are meld, ravdess"):
        find_dataset("melt")


def test_a_table_cannot_name_files_outside_its_folder(tmp_path: Path) -> None:
    write_tone(tmp_path / "secret.wav")
    root = tmp_path / "root"
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "esc50.csv").write_text("filename,fold,category,src_file\n../../secret.wav,1,dog,1\n")
    (row,) = read_dataset(DATASETS["esc-50"], root)
    assert row.audio is None


def test_sources_are_the_same_however_they_are_written() -> None:
    assert same_source("CREMA-D") == same_source("crema_d") == same_source("CremaD")
    assert same_source("US8K") == same_source("UrbanSound8K")
    assert same_source("my own") == "myown"


def test_clips_have_every_column_and_numbers_as_text(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,emotion,fold,split\na.wav,sad,1,DEV\nb.wav,,2.0,\n,x,1,\n")
    problems: list[FormatError] = []
    clips = read_clips(tmp_path / "m.csv", problems.append)
    assert [(clip.audio, clip.value("emotion"), clip.value("fold"), clip.split) for clip in clips] == [
        (tmp_path / "a.wav", "sad", "1", "valid"),
        (tmp_path / "b.wav", None, "2.0", None),
    ]
    assert "line 4: has neither a path nor a text" in str(problems[0])
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav", "labels": ["x", "y"], "fold": 3.0, "text": ["one", "two"]}\n')
    (clip,) = read_clips(tmp_path / "m.jsonl")
    assert (clip.values("labels"), clip.value("fold"), clip.text) == (("x", "y"), "3", "one")
    (tmp_path / "n.csv").write_text("file,label\na,b\n")
    with pytest.raises(FormatError, match=r"no column that names recordings .*it has file, label"):
        read_clips(tmp_path / "n.csv")


def test_a_recording_with_five_captions_has_a_row_for_each(tmp_path: Path) -> None:
    rows = list(read_dataset(DATASETS["clotho"], PUBLISHED["clotho"].write(tmp_path)))
    texts = [row.columns["text"] for row in rows if row.columns["split"] == "train"]
    assert texts == ["one", "two, too", "three", "four", "five"]


def test_splits_by_lists_need_the_lists(tmp_path: Path) -> None:
    folder = PUBLISHED["speech-commands"].write(tmp_path)
    rows = {row.name: row.columns["split"] for row in read_dataset(DATASETS["speech-commands"], folder)}
    assert rows == dict(zip(PUBLISHED["speech-commands"].audio, ("train", "valid", "test"), strict=True))
    (folder / "testing_list.txt").unlink()
    with pytest.raises(SourceError, match=r"has no testing_list\.txt"):
        list(read_dataset(DATASETS["speech-commands"], folder))


@pytest.mark.parametrize(
    ("name", "table", "content", "message"),
    [
        ("librispeech", "LibriSpeech/dev-other/116/288045/116-288045.trans.txt", "no number\n", "line 1: expected"),
        ("castella", "json/en/val.json", "[1]", "expected a list of objects"),
        ("castella", "json/en/val.json", "[{", "not valid JSON|JSON"),
        ("macs", "MACS.yaml", "files: [", "no YAML"),
        ("macs", "MACS.yaml", "- !!python/object/apply:os.system [true]", "no YAML"),
    ],
)
def test_broken_tables_are_named(name: str, table: str, content: str, message: str, tmp_path: Path) -> None:
    folder = PUBLISHED[name].write(tmp_path)
    (folder / table).write_text(content)
    with pytest.raises(FormatError, match=message):
        list(read_dataset(DATASETS[name], folder))


@pytest.mark.parametrize("name", DATASETS)
def test_a_declaration_says_where_the_data_is_and_what_to_cite(name: str) -> None:
    dataset = DATASETS[name]
    assert dataset.home.startswith("https://")
    assert dataset.citation
    splits = {key.partition("=")[2] for key in dataset.counts if key.startswith("split=")}
    assert splits <= {"train", "valid", "test"}
    assert all(key == "all" or key.partition("=")[0] in (*dataset.columns, "split", "fold") for key in dataset.counts)


@pytest.mark.parametrize("name", ["a\0b.wav", f"{'x' * 300}.wav"])
def test_a_name_that_no_file_can_have_is_a_missing_file(name: str, tmp_path: Path) -> None:
    root = PUBLISHED["clotho"].write(tmp_path)
    header = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
    (root / "clotho_captions_evaluation.csv").write_text(f"{header}{name},1,2,3,4,5\n")
    rows = [row for row in read_dataset(DATASETS["clotho"], root) if row.columns["split"] == "test"]
    assert [row.audio for row in rows] == [None] * 5


def test_what_is_deeper_than_a_list_of_lists_is_left_out(tmp_path: Path) -> None:
    root = PUBLISHED["macs"].write(tmp_path)
    pairs = zip("abcdefgh", "bcdefghi", strict=True)
    lists = "  a: &a [x, x]\n" + "".join(f"  {b}: &{b} [*{a}, *{a}]\n" for a, b in pairs)
    text = f"files:\n- filename: a.wav\n{lists}  annotations:\n  - annotator_id: *i\n    sentence: *b\n"
    (root / "MACS.yaml").write_text(text)
    (row,) = read_dataset(DATASETS["macs"], root)
    assert row.columns["text"] == "x-x;x-x"
    assert len(row.columns["annotator"]) < 10
