"""Collections of spoken words and sentences in many languages."""

from __future__ import annotations

from clara_search.datasets.dataset import Dataset, Table

SPEECH = (
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
