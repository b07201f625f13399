"""Labelled collections as they are published, each one a declaration that `layouts.rows_of` reads."""

from __future__ import annotations

from collections.abc import Mapping

from clara_search.datasets.dataset import Dataset, Table
from clara_search.errors import ConfigError

_CREMA_SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}

_DECLARED = (
    Dataset(
        "meld",
        files=("*_sent_emo.csv", "*/*_sent_emo.csv"),
        pattern=r"(?:.*/)?(?=(?P<published>train|dev|test))(?P<split>train|dev|test)_sent_emo\.csv",
        table=Table(),
        # In the archive of the test split stand others of the same name: each split has its own folder.
        audio=(
            "{split}/dia{Dialogue_ID}_utt{Utterance_ID}.mp4",
            "{folder}/dia{Dialogue_ID}_utt{Utterance_ID}.mp4",
            "{published}/dia{Dialogue_ID}_utt{Utterance_ID}.mp4",
            "{split}/{published}/dia{Dialogue_ID}_utt{Utterance_ID}.mp4",
        ),
        words={
            "published": {
                "train": "train_splits",
                "dev": "dev_splits_complete",
                "test": "output_repeated_splits_test",
            }
        },
        columns={
            "text": "{Utterance}",
            "speaker": "{Speaker}",
            "split": "{split}",
            "emotion": "{Emotion}",
            "sentiment": "{Sentiment}",
            "dialogue": "{split}-{Dialogue_ID}",
        },
        labels=("emotion", "sentiment"),
    ),
    Dataset(
        "ravdess",
        files=("Actor_*/*.wav", "*/Actor_*/*.wav"),
        pattern=r".*/03-(?P<channel>\d\d)-(?P<emotion>\d\d)-(?P<intensity>\d\d)-(?P<statement>\d\d)-\d\d-"
        r"(?=(?P<gender>\d\d))(?P<actor>\d\d)\.wav",
        words={
            "channel": {"01": "speech", "02": "song"},
            "emotion": {
                "01": "neutral",
                "02": "calm",
                "03": "happy",
                "04": "sad",
                "05": "angry",
                "06": "fearful",
                "07": "disgust",
                "08": "surprised",
            },
            "intensity": {"01": "normal", "02": "strong"},
            "statement": {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
            "gender": {f"{actor:02}": "male" if actor % 2 else "female" for actor in range(1, 25)},
        },
        columns={
            "text": "{statement}",
            "speaker": "{actor}",
            "emotion": "{emotion}",
            "intensity": "{intensity}",
            "gender": "{gender}",
            "channel": "{channel}",
        },
        labels=("emotion", "intensity", "gender", "channel"),
        speaker_folds=5,
    ),
    Dataset(
        "crema-d",
        files=("AudioWAV/*.wav", "*/AudioWAV/*.wav", "*.wav"),
        pattern=r"(?:.*/)?(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>[A-Z]{2})\.wav",
        words={
            "sentence": _CREMA_SENTENCES,
            "emotion": {
                "ANG": "angry",
                "DIS": "disgust",
                "FEA": "fearful",
                "HAP": "happy",
                "NEU": "neutral",
                "SAD": "sad",
            },
            "level": {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"},
        },
        columns={"text": "{sentence}", "speaker": "{actor}", "emotion": "{emotion}", "level": "{level}"},
        labels=("emotion", "level"),
        speaker_folds=5,
    ),
    Dataset(
        "emov-db",
        files=("*/*/*.wav", "*/*.wav"),
        pattern=r"(?i)(?:.*/)?(?P<speaker>bea|jenie|josh|sam)[/_](?:.*/)?(?P<emotion>[a-z]+)_[\d-]+_\d+\.wav",
        words={
            "emotion": {
                "anger": "angry",
                "amused": "amused",
                "disgust": "disgusted",
                "neutral": "neutral",
                "sleepiness": "sleepy",
            }
        },
        columns={"speaker": "{speaker}", "emotion": "{emotion}"},
        labels=("emotion",),
        speaker_folds=4,
        aliases=("emovdb", "emotional voices database"),
    ),
    Dataset(
        "emns",
        files=("metadata.csv", "*/metadata.csv"),
        pattern=r".*metadata\.csv",
        table=Table("|"),
        audio=("{folder}/{audio_recording}", "{folder}/cleaned_webm/{audio_recording}"),
        columns={
            "text": "{utterance}",
            "speaker": "{user_id}",
            "emotion": "{emotion}",
            "gender": "{gender}",
            "level": "{level}",
            "description": "{description}",
        },
        labels=("emotion", "gender", "level"),
    ),
    Dataset(
        "esc-50",
        files=("meta/esc50.csv", "*/meta/esc50.csv"),
        pattern=r"(?P<root>.*?)/?meta/esc50\.csv",
        table=Table(),
        audio=("{root}/audio/{filename}",),
        columns={"category": "{category}", "fold": "{fold}", "recording": "{src_file}"},
        labels=("category",),
        language="zxx",
    ),
    Dataset(
        "urbansound8k",
        files=("metadata/UrbanSound8K.csv", "*/metadata/UrbanSound8K.csv"),
        pattern=r"(?P<root>.*?)/?metadata/UrbanSound8K\.csv",
        table=Table(),
        audio=("{root}/audio/fold{fold}/{slice_file_name}",),
        columns={"class": "{class}", "fold": "{fold}", "recording": "{fsID}"},
        labels=("class",),
        language="zxx",
        aliases=("us8k",),
    ),
    Dataset(
        "fsd50k",
        files=("FSD50K.ground_truth/*.csv", "*/FSD50K.ground_truth/*.csv", "*.csv"),
        pattern=r"(?P<root>.*?)/?(?:FSD50K\.ground_truth/)?(?=(?P<part>dev|eval))(?P<split>dev|eval)\.csv",
        table=Table(),
        audio=("{root}/FSD50K.{part}_audio/{fname}.wav",),
        columns={"labels": "{labels}", "split": "{split}"},
        labels=("labels",),
        multi_label=True,
        language="zxx",
    ),
    Dataset(
        "mswc",
        files=("*_splits.csv", "*/*_splits.csv", "*/*/*_splits.csv"),
        pattern=r"(?:.*/)?(?P<lang>\w+?)_splits\.csv",
        table=Table(),
        audio=("{folder}/clips/{LINK}", "{folder}/{lang}/clips/{LINK}"),
        columns={
            "text": "{WORD}",
            "word": "{WORD}",
            "speaker": "{SPEAKER}",
            "gender": "{GENDER}",
            "split": "{SET}",
            "language": "{lang}",
        },
        labels=("word", "language", "gender"),
        aliases=("multilingual spoken words",),
    ),
    Dataset(
        "common-voice",
        files=("*.tsv", "*/*.tsv", "*/*/*.tsv"),
        pattern=r"(?:.*/)?(?P<split>train|dev|test)\.tsv",
        table=Table("\t"),
        audio=("{folder}/clips/{path}",),
        columns={
            "text": "{sentence}",
            "speaker": "{client_id}",
            "age": "{age}",
            "gender": "{gender}",
            "split": "{split}",
            "language": "{locale}",
        },
        labels=("language", "age", "gender"),
        aliases=("mozilla common voice", "cv"),
    ),
    Dataset(
        "audioset",
        files=("*_segments.csv", "*/*_segments.csv"),
        pattern=r"(?:.*/)?(?P<split>balanced_train|unbalanced_train|eval)_segments\.csv",
        table=Table(header=("ytid", "start_s", "end_s", "mids"), comment="#"),
        audio=(
            "{folder}/{split}_segments/{ytid}.*",
            "{folder}/{split}_segments/Y{ytid}.*",
            "{folder}/audio/{split}_segments/{ytid}.*",
            "{folder}/audio/{split}_segments/Y{ytid}.*",
            "{folder}/audio/{ytid}.*",
            "{folder}/audio/Y{ytid}.*",
        ),
        columns={"labels": "{mids}", "split": "{split}", "recording": "{ytid}"},
        labels=("labels",),
        named_in={"labels": ("class_labels_indices.csv", "mid", "display_name")},
        multi_label=True,
        language="zxx",
    ),
    Dataset(
        "voxpopuli",
        files=("asr_*.tsv", "*/asr_*.tsv", "*/*/asr_*.tsv"),
        pattern=r"(?:(?:.*/)?(?P<lang>[a-z]{2}(?:_accented)?)/)?asr_(?P<split>train|dev|test)\.tsv",
        table=Table("\t"),
        audio=("{folder}/{id:.4}/{id}.ogg", "{folder}/{split}/{id}.wav"),
        columns={
            "text": "{normalized_text}",
            "speaker": "{speaker_id}",
            "gender": "{gender}",
            "split": "{split}",
            "language": "{lang}",
        },
        labels=("language", "gender"),
    ),
)

DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in _DECLARED}
"""All of them, by name."""


def plain_name(name: str) -> str:
    """Return a collection's name as it is compared: "CREMA-D", "crema_d" and "CremaD" are one."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def find_dataset(name: str) -> Dataset:
    """Return the declaration of that name or alias. Raises ConfigError with those there are."""
    for dataset in _DECLARED:
        if plain_name(name) in map(plain_name, (dataset.name, *dataset.aliases)):
            return dataset
    raise ConfigError(f"no dataset {name!r}; there are {', '.join(DATASETS)}")


def same_source(name: str) -> str:
    """Return what a source is compared by: the plain name of the dataset that has this name or alias, or its own."""
    try:
        return plain_name(find_dataset(name).name)
    except ConfigError:
        return plain_name(name)
