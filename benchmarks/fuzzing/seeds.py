"""The small, good files that fuzzing starts from. Each seed is a folder."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.stand_ins import ProjectionEncoder

_RATE = 16_000
_DIM = 64
_CONTAINERS = {
    "wav-float.wav": ("wav", "pcm_f32le"),
    "alaw.wav": ("wav", "pcm_alaw"),
    "flac.flac": ("flac", "flac"),
    "mp3.mp3": ("mp3", "libmp3lame"),
    "opus.opus": ("ogg", "libopus"),
    "aac.m4a": ("ipod", "aac"),
    "alac.mp4": ("mp4", "alac"),
    "webm.webm": ("webm", "libopus"),
    "aiff.aiff": ("aiff", "pcm_s16be"),
    "au.au": ("au", "pcm_s16be"),
    "adts.aac": ("adts", "aac"),
    "caf.caf": ("caf", "pcm_s16le"),
    "matroska.mka": ("matroska", "pcm_s16le"),
}


def write(path: Path, content: bytes | str) -> None:
    """Write a file, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def tone() -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return a quarter of a second of a falling tone."""
    times = np.arange(_RATE // 4) / _RATE
    return (8000 * np.sin(2 * np.pi * (880 - 440 * times) * times)).astype(np.int16)


def audio(folder: Path) -> None:
    """Write recordings: containers and codecs of FFmpeg, and plain PCM."""
    import soundfile

    for name, (container, codec) in _CONTAINERS.items():
        write(folder / name.partition(".")[0] / name, _encoded(container, codec))
    for name, subtype in (
        ("pcm-16.wav", "PCM_16"),
        ("pcm-24.wav", "PCM_24"),
        ("vorbis.ogg", "VORBIS"),
        ("mpeg.mp3", "MPEG_LAYER_III"),
    ):
        write(folder / name.partition(".")[0] / name, b"")
        soundfile.write(folder / name.partition(".")[0] / name, np.stack([tone()] * 2, 1), _RATE, subtype)


def _encoded(container: str, codec: str, skipped: int = 0) -> bytes:
    import av

    file = io.BytesIO()
    rate = 48_000 if codec == "libopus" else _RATE
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.layout = "mono"
        output.metadata["title"] = "a tone"
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or 512)
        frame = av.AudioFrame.from_ndarray(tone()[None, skipped:], "s16", "mono")
        frame.rate = _RATE
        for resampled in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(resampled))
        output.mux(stream.encode(None))
    return file.getvalue()


def _rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number in range(4):
        row = {"path": f"a{number}.wav", "text": f"words, {number} 'é'", "language": "en", "start_s": 0.5, "end_s": 1.5}
        rows.append({**row, "speaker": number, "rating": number / 3, "tags": ["x", {"y": None}], "ok": True})
    return rows


def manifests(folder: Path) -> None:
    """Write manifests in all formats, one with its recordings, and a saved data set."""
    import pyarrow as pa
    from pyarrow import ipc, parquet

    rows = _rows()
    plain = [{**row, "tags": "x"} for row in rows]
    for name, delimiter in (("csv", ","), ("tsv", "\t")):
        lines = [delimiter.join(plain[0]), *(delimiter.join(f'"{value}"' for value in row.values()) for row in plain)]
        write(folder / name / f"m.{name}", "\n".join(lines) + "\n")
    write(folder / "jsonl" / "m.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(folder / "txt" / "m.txt", "first line\nsecond é\n\n third\n")
    recording = _encoded("wav", "pcm_s16le")[:2000]
    held = pa.Table.from_pylist([{"audio": {"bytes": recording, "path": "a.wav"}, "text": "words"}] * 3)
    many = pa.table({**pa.Table.from_pylist(plain).to_pydict(), "when": [datetime(2020, 1, 1, tzinfo=UTC)] * 4})
    many = many.append_column("label", pa.array(["a", "b", "a", None]).dictionary_encode())
    for name, table in (("plain", many), ("held", held)):
        for kind in ("parquet", "gzip.parquet", "arrow", "stream.arrow"):
            path = folder / f"{name}-{kind.replace('.', '-')}" / f"m.{kind.rpartition('.')[2]}"
            write(path, b"")
            if kind.endswith("parquet"):
                parquet.write_table(table, path, compression="gzip" if kind.startswith("gzip") else "none")
            else:
                opened = ipc.new_file if kind == "arrow" else ipc.new_stream
                with opened(path, table.schema) as writer:
                    writer.write_table(table)
    saved = folder / "saved-dataset" / "saved"
    write(saved / "dataset_dict.json", '{"splits": ["train"]}')
    write(saved / "train" / "state.json", '{"_data_files": [{"filename": "data.arrow"}], "_split": "train"}')
    write(saved / "train" / "data.arrow", (folder / "plain-arrow" / "m.arrow").read_bytes())


def tars(folder: Path) -> None:
    """Write shards in the formats of tar."""
    for name, kind in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("ustar", tarfile.USTAR_FORMAT)):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
            for key in ("a", "b" * 120 if name != "ustar" else "b", "c/é" if name == "pax" else "c"):
                values = json.dumps({"text": f"words of {key[:3]}", "language": "en", "start_s": 0, "n": 3})
                for suffix, content in (("wav", _encoded("wav", "pcm_s16le")[:900]), ("json", values.encode())):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        write(folder / name / "s.tar", file.getvalue())


def models(folder: Path) -> None:
    """Write a small model, with tokenizer, configuration and weights."""
    import torch

    from clara_search.models.clara.checkpoint import save_model
    from clara_search.models.clara.config import AudioTowerConfig, ClaraConfig, TextTowerConfig
    from clara_search.models.clara.towers import Clara
    from trainer.config.presets import V2_MEL
    from trainer.pretraining.tokenizer import train_tokenizer

    torch.manual_seed(0)
    poolings: tuple[Literal["latents", "attention"], ...] = ("latents", "attention")
    for pooling in poolings:
        config = ClaraConfig(
            "small",
            16,
            replace(V2_MEL, n_mels=16),
            audio=AudioTowerConfig(
                width=8,
                positions="sinusoidal",
                latents=2,
                latent_dim=8,
                latent_layers=1,
                latent_heads=1,
                latent_head_dim=8,
                cross_heads=1,
                cross_head_dim=8,
                pooling=pooling,
                hidden=8,
            ),
            text=TextTowerConfig(
                300, "sinusoidal", 64, width=8, layers=1, heads=2, feed_forward=8, pre_norm=True, proj_dim=8, hidden=8
            ),
        )
        tokenizer = train_tokenizer(["high tone", "low tone"], 300, ["en"])
        save_model(folder / pooling / "model", Clara(config), tokenizer, "# small\n", torch.float32)


def tokenizer_files(folder: Path) -> None:
    """Write tokenizers of the kinds that models bring."""
    import tokenizers

    from trainer.pretraining.tokenizer import train_tokenizer

    write(folder / "bpe" / "tokenizer.json", b"")
    train_tokenizer(["high tone", "low tone"], 300, ["en"]).save(folder / "bpe" / "tokenizer.json")
    unigram = tokenizers.Tokenizer(tokenizers.models.Unigram([("<unk>", 0.0), ("a", -1.0), ("▁t", -2.0)], 0, False))
    unigram.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    unigram.normalizer = tokenizers.normalizers.Replace("  ", " ")
    unigram.add_special_tokens(["<s>", "</s>"])
    unigram.post_processor = tokenizers.processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 3), ("</s>", 4)]
    )
    pieces = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "ton": 3, "##e": 4}
    words = tokenizers.Tokenizer(tokenizers.models.WordPiece(pieces, unk_token="[UNK]"))
    words.normalizer = tokenizers.normalizers.BertNormalizer()
    words.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    words.enable_truncation(16)
    words.enable_padding(length=8)
    for name, tokenizer in (("unigram", unigram), ("words", words)):
        write(folder / name / "tokenizer.json", tokenizer.to_str())


def checkpoints(folder: Path) -> None:
    """Write checkpoints, as an archive and in the format before it."""
    import torch

    content = {
        "hyper_parameters": {"audio_encoder_weight_tie_layers": False, "vocab_size": 10, "name": "x"},
        "state_dict": {
            "model.a.weight": torch.arange(12.0).reshape(3, 4),
            "model.b": torch.ones(3, dtype=torch.float16),
        },
    }
    for name, is_archive in (("archive", True), ("old", False)):
        write(folder / name / "a.ckpt", b"")
        torch.save(content, folder / name / "a.ckpt", _use_new_zipfile_serialization=is_archive)


def heads(folder: Path) -> None:
    """Write a head of each kind."""
    import torch

    from clara_search.classification.head import Head, HeadConfig
    from clara_search.classification.head_files import save_head

    torch.manual_seed(0)
    tasks = {"a": ("x", "y"), "b": ("u", "v", "w")}
    save_head(folder / "linear" / "head", Head(HeadConfig("linear", "audio", tasks, _DIM)))
    save_head(folder / "mlp" / "head", Head(HeadConfig("mlp", "late", tasks, _DIM, hidden=(8,))))
    save_head(folder / "knn" / "head", Head(HeadConfig("knn", "both", tasks, _DIM, num_examples=5)))


def databases(folder: Path) -> None:
    """Write a database with a table, its ledger, an index and a calibration."""
    from clara_search.retrieval.ann import index as ann
    from clara_search.retrieval.calibration import files as calibrations
    from clara_search.retrieval.calibration.model import DEFAULTS, Calibration
    from clara_search.store.database import Database
    from indexer.pipeline import index

    for backend in ("flat", "ivf"):
        source = folder / backend / "source"
        for number in range(8):
            write(source / f"{number}.wav", _encoded("wav", "pcm_s16le", skipped=100 * number))
        rows = [{"path": f"{number}.wav", "text": f"words {number}", "speaker": number} for number in range(8)]
        write(source / "m.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, {"path": "gone.wav"}]))
        database = Database(folder / backend / "db", create=True)
        index([str(source / "m.jsonl")], database, ProjectionEncoder(), window_s=0.1, hop_s=0.05)
        table = database.table()
        ann.build(table, backend)
        fitted = {name: Calibration(0.0, 0.1, *weights, 0.9, 10, 0) for name, weights in DEFAULTS.items()}
        ids = tuple(table.scan(["id"])["id"].to_pylist())
        stored = calibrations.StoredCalibration(calibrations.FORMAT_VERSION, table.info.fingerprint, 8, ids, fitted)
        calibrations.write(table, stored)
        if calibrations.read(table) != stored:
            raise ValueError("the calibration of a seed is not read")


def dataset_copies(folder: Path) -> None:
    """Write copies of published datasets, one for each format of tables, without recordings."""
    moment = {"local_caption": "a horn", "timestamps": [[27, 28], [289, 290]]}
    castella = [{"yid": "-0awng26xQ8", "duration": 299, "num_moments": 1, "moments": [moment]}]
    note = "- filename: a.wav\n  annotations:\n  - annotator_id: 10\n    sentence: talk\n    tags:\n    - &x steps\n"
    row = {"qid": "1", "query": "water", "duration": 60, "vid": "City_1", "relevant_windows": [[2.5, 27.5]]}
    tables = {
        "macs": {"MACS.yaml": f"files:\n{note}    - *x\n"},
        "castella": {f"json/en/{split}.json": json.dumps(castella) for split in ("train", "val", "test")},
        "clotho-moment": {"clotho_moment_test_release.jsonl": f"{json.dumps(row)}\n" * 2},
        "clotho": {
            "clotho_captions_evaluation.csv": "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
            'a b.wav,one,"two, too",three,four,five\n'
        },
        "librispeech": {"L/dev-other/116/288045/116-288045.trans.txt": "116-288045-0000 AS I APPROACHED\n"},
        "audioset": {
            "eval_segments.csv": '# a\n# b\n# YTID\nCCC, 30.000, 40.000, "/m/05tny_"\n',
            "class_labels_indices.csv": 'index,mid,display_name\n1,/m/05tny_,"Bark"\n',
        },
    }
    for name, files in tables.items():
        for path, content in files.items():
            write(folder / name / name / path, content)
