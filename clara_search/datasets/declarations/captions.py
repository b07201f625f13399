"""Collections of captioned sounds, and of captioned moments in long recordings."""

from __future__ import annotations

from clara_search.datasets.dataset import Dataset, Table

_YOUTUBE_AUDIO = tuple(
    f"{{folder}}/{folder}{name}.*"
    for folder in ("{split}/", "audio/{split}/", "audio/", "")
    for name in ("{youtube_id}", "Y{youtube_id}", "{youtube_id}_{start_time}", "{audiocap_id}")
)

CAPTIONS = (
    Dataset(
        "audiocaps",
        licence="captions: academic use only; the recordings are of YouTube",
        citation="Kim et al., NAACL-HLT 2019",
        home="https://github.com/cdjkim/audiocaps",
        counts={"split=train": 49838, "split=valid": 495, "split=test": 975},
        files=("*.csv", "*/*.csv"),
        pattern=r"(?:.*/)?(?P<split>train|val|test)\.csv",
        table=Table(),
        audio=_YOUTUBE_AUDIO,
        columns={"text": "{caption}", "split": "{split}", "recording": "{youtube_id}"},
        language="zxx",
    ),
    Dataset(
        "clotho",
        licence="each recording has a Creative Commons licence of its own; captions: Tampere University licence, "
        "non-commercial with attribution",
        citation="Drossos, Lipping and Virtanen, ICASSP 2020, arXiv:1910.09387",
        home="https://zenodo.org/records/4783391",
        counts={"split=train": 3839, "split=valid": 1045, "split=test": 1045},
        files=("clotho_captions_*.csv", "*/clotho_captions_*.csv"),
        pattern=r"(?:.*/)?clotho_captions_(?=(?P<part>[a-z]+))(?P<split>development|validation|evaluation)\.csv",
        table=Table(),
        audio=(
            "{folder}/{part}/{file_name}",
            "{folder}/audio/{part}/{file_name}",
            "{folder}/clotho_audio_{part}/{file_name}",
            "{folder}/clotho_audio_{part}/{part}/{file_name}",
        ),
        words={"split": {"development": "train", "validation": "valid", "evaluation": "test"}},
        columns={"split": "{split}"},
        captions=tuple(f"{{caption_{number}}}" for number in range(1, 6)),
        language="zxx",
        aliases=("clotho v2", "clotho 2.1", "clotho v2.1"),
    ),
    Dataset(
        "macs",
        licence="",
        citation="Martín-Morató and Mesaros, DCASE Workshop 2021",
        home="https://zenodo.org/records/5114771",
        counts={"all": 3930},
        files=("MACS.yaml", "*/MACS.yaml"),
        pattern=r"(?:.*/)?MACS\.yaml",
        table=Table(each="annotations"),
        audio=(
            "{folder}/audio/{filename}",
            "{folder}/TAU-urban-acoustic-scenes-2019-development/audio/{filename}",
            "{folder}/TAU_audio/{filename}",
        ),
        columns={"text": "{sentence}", "annotator": "{annotator_id}"},
        language="zxx",
        aliases=("multi-annotator captioned soundscapes",),
    ),
    Dataset(
        "wavcaps",
        licence="academic use only",
        citation="Mei et al., IEEE/ACM TASLP 32, 2024, arXiv:2303.17395",
        home="https://huggingface.co/datasets/cvssp/WavCaps",
        counts={"part=FreeSound": 262300, "part=BBC_Sound_Effects": 31201, "part=SoundBible": 1232}
        | {"part=AudioSet_SL": 108317},
        files=("json_files/*/*_final.json", "*/json_files/*/*_final.json"),
        pattern=r"(?P<root>.*?)/?json_files/(?P<part>FreeSound|BBC_Sound_Effects|SoundBible|AudioSet_SL)/\w+\.json",
        table=Table(),
        # Identifiers of AudioSet end in ".wav", the others are shorter than a video's.
        audio=("{root}/audio/{part}/{id:.12}.*", "{root}/{part}/{id:.12}.*", "{root}/waveforms/{part}/{id:.12}.*"),
        columns={"text": "{caption}", "part": "{part}", "recording": "{id}"},
        language="zxx",
    ),
    Dataset(
        "castella",
        licence="CC BY 4.0 for the annotations; the recordings are of YouTube",
        citation="Munakata et al., 2025, arXiv:2511.15131",
        home="https://github.com/line/CASTELLA",
        counts={"split=train": 1009, "split=valid": 213, "split=test": 640},
        files=("json/en/*.json", "*/json/en/*.json"),
        pattern=r"(?P<root>.*?)/?json/en/(?P<split>train|val|test)\.json",
        table=Table(each="moments"),
        audio=("{root}/audio/{yid}.*", "{root}/audio/{split}/{yid}.*"),
        columns={"text": "{local_caption}", "moments": "{timestamps}", "split": "{split}", "recording": "{yid}"},
        language="zxx",
    ),
    Dataset(
        "clotho-moment",
        licence="",
        citation="Munakata et al., ICASSP 2025, arXiv:2409.15672",
        home="https://github.com/line/lighthouse",
        counts={"split=valid": 4107, "split=test": 5472},
        files=("clotho_moment_*_release.jsonl", "*/clotho_moment_*_release.jsonl"),
        pattern=r"(?:.*/)?clotho_moment_(?P<split>train|val|test)_release\.jsonl",
        table=Table(),
        audio=("{folder}/audio/{vid}.*", "{folder}/audio/{split}/{vid}.*"),
        columns={"text": "{query}", "moments": "{relevant_windows}", "split": "{split}", "recording": "{vid}"},
        language="zxx",
    ),
)
