"""Three recordings of collections of captions, moments and words, laid out as they are published."""

from __future__ import annotations

import json

from tests.clara_search.datasets.published import Published

_CLOTHO = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
_WAVCAPS = {"title": "t", "description": "d", "author": "a", "href": "h", "duration": 3.0, "audio": "wav_path"}


def _castella(yid: str, text: str) -> str:
    moments = [{"local_caption": text, "timestamps": [[27, 28], [289, 290]]}]
    return json.dumps([{"yid": yid, "global_caption": "g", "duration": 299, "num_moments": 1, "moments": moments}])


def _moment(vid: str, query: str) -> str:
    row = {"qid": "1", "query": query, "duration": 60, "vid": vid, "relevant_windows": [[2.5, 27.5]], "fg_dB": -2.0}
    return json.dumps(row) + "\n"


PUBLISHED_CAPTIONS = {
    "audiocaps": Published(
        ("train/r1nicOVtvkQ.wav", "val/YvfY_TJq7n_U.wav", "audio/7fmOlUlwoNg_20.flac"),
        {
            "text": "A woman talks nearby as water pours",
            "split": "train",
            "recording": "r1nicOVtvkQ",
        },
        {
            "train.csv": "audiocap_id,youtube_id,start_time,caption\n"
            "91139,r1nicOVtvkQ,130,A woman talks nearby as water pours\n",
            "val.csv": "audiocap_id,youtube_id,start_time,caption\n97151,vfY_TJq7n_U,130,Rustling occurs\n",
            "test.csv": "audiocap_id,youtube_id,start_time,caption\n103549,7fmOlUlwoNg,20,Constant rattling\n",
        },
    ),
    "clotho": Published(
        ("development/a b.wav", "validation/c.wav", "evaluation/d.wav"),
        {"text": "one", "split": "train"},
        {
            "clotho_captions_development.csv": _CLOTHO + 'a b.wav,one,"two, too",three,four,five\n',
            "clotho_captions_validation.csv": _CLOTHO + "c.wav,one,two,three,four,five\n",
            "clotho_captions_evaluation.csv": _CLOTHO + "d.wav,one,two,three,four,five\n",
        },
    ),
    "macs": Published(
        ("audio/airport-a.wav", "audio/park-b.wav", "audio/square-c.wav"),
        {"text": "people talk", "annotator": "10"},
        {
            "MACS.yaml": "files:\n"
            + "".join(
                f"- filename: {name}.wav\n  annotations:\n  - annotator_id: 10\n    sentence: people talk\n    tags:\n"
                "    - adults_talking\n    - footsteps\n"
                for name in ("airport-a", "park-b", "square-c")
            )
        },
    ),
    "wavcaps": Published(
        ("audio/SoundBible/2219.flac", "audio/AudioSet_SL/Y---1_cCGK4M.flac", "FreeSound/180913.flac"),
        {"text": "An airplane is landing.", "part": "SoundBible", "recording": "2219"},
        {
            f"json_files/{part}/{file}_final.json": json.dumps(
                {"num_captions_per_audio": 1, "data": [{**_WAVCAPS, "caption": caption, "id": number}]}
            )
            for part, file, number, caption in (
                ("SoundBible", "sb", "2219", "An airplane is landing."),
                ("AudioSet_SL", "as", "Y---1_cCGK4M.wav", "A man speaks."),
                ("FreeSound", "fsd", "180913", "Hands clap."),
            )
        },
    ),
    "castella": Published(
        ("audio/-0awng26xQ8.wav", "audio/rqfQRErjfk8.wav", "audio/--0w1YA1Hm4.wav"),
        {"text": "A horn", "moments": "27-28;289-290", "split": "train", "recording": "-0awng26xQ8"},
        {
            "json/en/train.json": _castella("-0awng26xQ8", "A horn"),
            "json/en/val.json": _castella("rqfQRErjfk8", "Music"),
            "json/en/test.json": _castella("--0w1YA1Hm4", "A phone"),
        },
    ),
    "clotho-moment": Published(
        ("audio/City_1.0_61.0.wav", "audio/Park_0.0_60.0.wav", "audio/Wildlife_0.0_60.0.wav"),
        {"text": "water", "moments": "2.5-27.5", "split": "train", "recording": "City_1.0_61.0"},
        {
            "clotho_moment_train_release.jsonl": _moment("City_1.0_61.0", "water"),
            "clotho_moment_val_release.jsonl": _moment("Park_0.0_60.0", "birds"),
            "clotho_moment_test_release.jsonl": _moment("Wildlife_0.0_60.0", "splashes"),
        },
    ),
    "vggsound": Published(
        ("audio/---g-f_I2yQ_000001.wav", "test/FwVYUHKoLtQ_000034.wav", "video/--0PQM4-hqg_000030.mp4"),
        {"label": "people marching", "split": "train", "recording": "---g-f_I2yQ"},
        {
            "vggsound.csv": "---g-f_I2yQ,1,people marching,train\nFwVYUHKoLtQ,34,waterfall burbling,test\n"
            '--0PQM4-hqg,30,"race car, auto racing",train\n'
        },
    ),
    "speech-commands": Published(
        ("backward/0165e0e8_nohash_0.wav", "cat/004ae714_nohash_0.wav", "cat/0132a06d_nohash_1.wav"),
        {"text": "backward", "word": "backward", "speaker": "0165e0e8", "split": "train"},
        {
            "validation_list.txt": "cat/004ae714_nohash_0.wav\n",
            "testing_list.txt": "cat/0132a06d_nohash_1.wav\n",
            "_background_noise_/README.md": "no words\n",
        },
    ),
    "librispeech": Published(
        (
            "LibriSpeech/train-clean-100/103/1240/103-1240-0000.flac",
            "LibriSpeech/dev-other/116/288045/116-288045-0000.flac",
            "LibriSpeech/test-clean/61/70968/61-70968-0000.flac",
        ),
        {"text": "CHAPTER ONE MISSUS", "speaker": "103", "split": "train", "subset": "train-clean-100"},
        {
            "LibriSpeech/train-clean-100/103/1240/103-1240.trans.txt": "103-1240-0000 CHAPTER ONE MISSUS\n",
            "LibriSpeech/dev-other/116/288045/116-288045.trans.txt": "116-288045-0000 AS I APPROACHED\n",
            "LibriSpeech/test-clean/61/70968/61-70968.trans.txt": "61-70968-0000 HE BEGAN\n",
        },
    ),
    "fleurs": Published(
        ("de_de/audio/train/1.wav", "de_de/audio/dev/2.wav", "de_de/audio/test/3.wav"),
        {"text": 'Er sagte "ja.', "sentence": "7", "gender": "FEMALE", "split": "train", "language": "de"},
        {
            f"de_de/{split}.tsv": f'7\t{n}.wav\tEr sagte "ja.\ter sagte ja\te r | s\t48000\tFEMALE\n'
            for n, split in ((1, "train"), (2, "dev"), (3, "test"))
        },
    ),
}
