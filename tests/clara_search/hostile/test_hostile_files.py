"""Each command over hostile files: one line that names them, little memory, no traceback, no panic, no hang."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lancedb
import pytest

from clara_search.models.recorded import RecordedModel
from clara_search.store.schema import TableInfo, corpus_schema
from tests.clara_search.hostile import files, tables
from tests.clara_search.hostile.files import edit, model, write
from tests.helpers import ROOT, write_tone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory by /proc"),
]

MOST_MIB = 600
"""Above what the process had before the command."""

HEAD = {
    "format_version": 1,
    "kind": "mlp",
    "inputs": "audio",
    "tasks": {"a": ["x", "y"]},
    "dim": 512,
    "model": "clara-small",
    "hidden": [30_000, 30_000],
}

INFO = TableInfo(RecordedModel("clara-small", "0" * 64), 512, 10.0, 5.0)


def by_model(message: str, **changed: Callable[[Path], None]) -> tuple[Callable[[Path], list[str]], str]:
    return lambda tmp: ["classify", "tone.wav", "--labels", "a,b", "--model", str(model(tmp / "m", **changed))], message


def by_head(message: str, weights: bytes = b"", **values: Any) -> tuple[Callable[[Path], list[str]], str]:
    def make(tmp: Path) -> list[str]:
        (tmp / "head").mkdir()
        (tmp / "head" / "head.json").write_text(json.dumps({**HEAD, **values}))
        (tmp / "head" / "head.safetensors").write_bytes(weights or files.safetensors({}))
        return ["classify", "tone.wav", "--head", str(tmp / "head")]

    return make, message


def by_checkpoint(message: str, make: Callable[[Path], object]) -> tuple[Callable[[Path], list[str]], str]:
    def arguments(tmp: Path) -> list[str]:
        make(tmp / "a.ckpt")
        return ["models", "convert", str(tmp / "a.ckpt"), "--out", str(tmp / "m")]

    return arguments, message


def by_index(message: str, make: Callable[[Path], object]) -> tuple[Callable[[Path], list[str]], str]:
    def arguments(tmp: Path) -> list[str]:
        made = make(tmp)
        return ["index", str(made), "--db", str(tmp / "db"), "--model", "clara-small", "--strict"]

    return arguments, message


def by_table(message: str, change: Callable[[Path], object] | None = None, **info: Any) -> tuple[Any, str]:
    def arguments(tmp: Path) -> list[str]:
        columns = corpus_schema(replace(INFO, dim=512), [])
        metadata = corpus_schema(replace(INFO, **info), []).metadata if info.get("dim", 1) > 0 else columns.metadata
        metadata = {**metadata, b"clara.dim": str(info.get("dim", 512)).encode()}
        lancedb.connect(tmp / "db").create_table("corpus", schema=columns.with_metadata(metadata))
        if change is not None:
            change(tmp / "db")
        return ["db", "info", "--db", str(tmp / "db")]

    return arguments, message


def manifest(*rows: str) -> Callable[[Path], Path]:
    def make(tmp: Path) -> Path:
        (tmp / "m.jsonl").write_text("\n".join(rows))
        return tmp / "m.jsonl"

    return make


def pipe(tmp: Path) -> Path:
    os.mkfifo(tmp / "a.wav")
    return manifest('{"path": "a.wav"}')(tmp)


def base_paths(database: Path, before: bytes = b"") -> None:
    """Let the version of a table name the root folder as a base path, behind other fields."""
    (path,) = (database / "corpus.lance" / "_versions").glob("*.manifest")
    path.write_bytes(files.with_base_path(path.read_bytes(), "/", before))


def list_of_tables(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """A change of a database: its list of tables, which LanceDB reads first, has a version that a function makes."""

    def change(database: Path) -> None:
        path = database / "__manifest" / "_versions" / "18446744073709551613.manifest"
        path.parent.mkdir(parents=True)
        make(path)

    return change


CASES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "weights of holes": by_model(
        r"model\.safetensors: is a sparse file",
        config__json=edit(text__vocab_size=8_000_000),
        model__safetensors=files.sparse_weights,
    ),
    "weights that are not there": by_model(
        "declares 2,000,000,000 bytes of tensors and holds 9",
        model__safetensors=write(files.safetensors({"a": (1_000_000_000,)}, 9)),
    ),
    "a header of gigabytes": by_model(
        "header is cut short", model__safetensors=write(struct.pack("<Q", 1 << 33) + b"{}")
    ),
    "a header in levels": by_model(
        "levels of nesting", model__safetensors=write(struct.pack("<Q", 20_000) + b"[" * 20_000)
    ),
    "a model of a trillion parameters": by_model(
        "parameters of a model, where at most", config__json=edit(text__vocab_size=10**7, text__width=9_999_872)
    ),
    "a hop of one sample": by_model("frames of a log-mel a second", config__json=edit(mel__hop_length=1)),
    "a transform of a million": by_model("samples of a Fourier", config__json=edit(mel__n_fft=10**6)),
    "many mels": by_model("numbers a second", config__json=edit(mel__n_mels=1024, mel__hop_length=16)),
    "a wide tower": by_model("numbers a second", config__json=edit(audio__width=8_000_000)),
    "many latents": by_model("latents of an audio tower", config__json=edit(audio__latents=10**7)),
    "a text without end": by_model("tokens of a text", config__json=edit(text__max_positions=10**7)),
    "a configuration in levels": by_model("levels of nesting", config__json=write('{"a":' * 100_000)),
    "a configuration of lists": by_model("values in JSON", config__json=write('{"a": [' + "[]," * 4_000_000 + "1]}")),
    "a sound head of a trillion": by_model(
        "parameters of a model, where at most", sounds__json=edit(anchors=10**7, vocab_size=10**7)
    ),
    "a normalizer that multiplies": by_model(
        "its normalizers multiply texts",
        tokenizer__json=edit(
            normalizer={
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 8}] * 9,
            }
        ),
    ),
    "a pattern that backtracks": by_model(
        "the pattern .* is not one of those",
        tokenizer__json=edit(
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False}
        ),
    ),
    "a character map that leads nowhere": by_model(
        "its character map is broken",
        sounds_tokenizer__json=edit(
            normalizer={"type": "Precompiled", "precompiled_charsmap": files.charsmap([1 << 30] * 256, b"a\0")}
        ),
    ),
    "a character map that multiplies": by_model(
        "its character map multiplies",
        sounds_tokenizer__json=edit(
            normalizer={"type": "Precompiled", "precompiled_charsmap": files.charsmap([0] * 256, b"a" * 10**6 + b"\0")}
        ),
    ),
    "a tokenizer that pads": by_model(
        "pads texts",
        sounds_tokenizer__json=edit(
            padding={
                "strategy": {"Fixed": 10**9},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "<unk>",
            }
        ),
    ),
    "an unknown token that is none": by_model("its unknown token", sounds_tokenizer__json=edit(model__unk_id=10**9)),
    "a head without its weights": by_head(r"is missing"),
    "a head of many tasks": by_head("at most 100 tasks", tasks={f"{n}": ["a"] for n in range(1000)}),
    "a head of a trillion parameters": by_head("parameters of a model", hidden=[1_000_000, 1_000_000]),
    "a head in levels": by_head("levels of nesting", tasks={"a": json.loads("[" * 99 + "]" * 99)}),
    "an expanded tensor": by_checkpoint("repeats the same numbers", files.expanded),
    "a compressed checkpoint": by_checkpoint("it is compressed", files.deflated),
    "a bytearray of gigabytes": by_checkpoint(
        r"it holds builtins\.bytearray", lambda path: files.pickled(path, files.GIB_OF_ZEROS)
    ),
    "a million copies": by_checkpoint("again and again", lambda path: files.pickled(path, files.COPIES)),
    "a hop of a nanosecond": by_table("windows are of 10 s every 1e-09 s", hop_s=1e-9),
    "a window without end": by_table("seconds of a recording, where", window_s=1e300),
    "a hop that is no number": by_table("every nan s", hop_s=float("nan")),
    "vectors of a negative length": by_table("metadata say -1 numbers", dim=-1),
    "vectors of another length": by_table("metadata say 1000000 numbers", dim=1_000_000),
    "a table of other folders": by_table("read files outside of its folder", base_paths),
    "a table of other folders behind a group": by_table(
        "read files outside of its folder", lambda path: base_paths(path, b"\xcb\x06\xcc\x06")
    ),
    "a list of tables that is a pipe": by_table("is a pipe, a socket or a device", list_of_tables(os.mkfifo)),
    "a list of tables that is a link": by_table("is a link", list_of_tables(lambda path: path.symlink_to("/dev/zero"))),
    "a list of tables of holes": by_table("bytes of a version of a table", list_of_tables(files.holes)),
    "a list of tables that is none": by_table(
        "cannot be reached", list_of_tables(lambda path: path.write_bytes(b"no version"))
    ),
    "a device in a manifest": by_index(
        "/dev/zero: .*is no file", manifest('{"path": "/dev/zero"}', '{"path": "/dev/urandom"}')
    ),
    "a pipe in a manifest": by_index("is no file, but a pipe", pipe),
    "a file of /proc": by_index("more than the 0 bytes", manifest('{"path": "/proc/self/maps"}')),
    "a device as a URL": by_index("file:///dev/zero: ", lambda _: "file:///dev/zero"),
    "rows in levels": by_index("levels of nesting", manifest('{"path": ' + "[" * 10_000)),
    "65,535 channels": by_index(
        "channels|not a recording|holds no samples", lambda tmp: files.wav_header(tmp / "a.wav", 65_535, 16_000)
    ),
    "four billion samples a second": by_index(
        "samples a second|not a recording", lambda tmp: files.wav_header(tmp / "b.wav", 1, (1 << 32) - 1)
    ),
    "a recording of holes": by_index("is a sparse file", lambda tmp: files.holes(tmp / "a.wav", 3 << 30)),
    "a recording of more holes": by_index("bytes of a recording's file", lambda tmp: files.holes(tmp / "a.wav")),
    "a manifest of holes": by_index("is a sparse file", lambda tmp: files.holes(tmp / "m.csv")),
    "a sparse member": by_index("is a sparse file", lambda tmp: files.sparse_tar(tmp / "a.tar")),
    "a member of negative size": by_index(
        "not a readable tar|cut off|negative", lambda tmp: files.tar_of(tmp / "a.tar", {"size": "-4096"})
    ),
    "a header of megabytes": by_index(
        "not a readable tar|no tar|cut off", lambda tmp: files.tar_of(tmp / "a.tar", {"comment": "x" * (2 << 20)})
    ),
    "members of one key": by_index(
        "two members|members of an example", lambda tmp: files.tar_of(tmp / "a.tar", {}, tarfile.REGTYPE, 5000)
    ),
    **{name: by_index(message, make) for name, (message, make) in tables.CASES.items()},
}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], dict[str, Any]]]:
    """A function that runs a case in a process of its own, which all cases share while they do not end it."""
    folder = tmp_path_factory.mktemp("hostile")
    write_tone(folder / "tone.wav", 440)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.clara_search.hostile.run_commands"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=environment, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(*arguments: str) -> dict[str, Any]:
            process.stdin.write(json.dumps(arguments) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, "the process ended"
            return json.loads(line)

        normal = run("classify", "tone.wav", "--labels", "a,b")
        assert normal["code"] == 0, normal["text"]
        yield run
        process.stdin.close()


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_costs_one_line(name: str, printed: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    make, message = CASES[name]
    result = printed(*make(tmp_path))
    text = " ".join(result["text"].split())
    assert result["code"] == 1, text
    assert re.search(message, text), text
    assert "Traceback" not in text
    assert "panicked" not in text
    assert result["mib"] < MOST_MIB
