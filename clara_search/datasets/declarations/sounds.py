"""Collections of sounds and sound events."""

from __future__ import annotations

from clara_search.datasets.dataset import Dataset, Table

SOUNDS = (
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
)
