"""Hits for people: tables, players, sounds and files, of tables that may be a stranger's."""

from __future__ import annotations

import base64
import csv
import io
import os
import re

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from clara_search.errors import AudioError, OutputError, QueryError
from clara_search.files.tables import read_table
from clara_search.retrieval.hits import Hit, Hits
from clara_search.retrieval.index import Index
from clara_search.retrieval.output import display
from clara_search.retrieval.output.export import FORMATS, export_hits, safe_name
from clara_search.retrieval.query import Query
from tests.helpers import tone, write_tone
from tests.tables import rows, table_of, unit_vectors


def hit(uri, start_s=0.5, end_s=1.5, text=None, rank=1, kind="audio", **extra):
    return Hit(rank, f"{rank:032x}", 0.75, kind, str(uri), start_s, end_s, text, "en", extra)


def hits_of(*found, label="a dog"):
    return Hits(found, Query(np.ones(1, np.float32), "text", label))


@pytest.fixture
def recording(tmp_path):
    """One second of 300 Hz, then one of 3,000 Hz."""
    path = tmp_path / "two tones.wav"
    soundfile.write(path, np.concatenate([tone(300), tone(3000)]), 16_000)
    return path


def pitch(waveform, rate):
    return np.abs(np.fft.rfft(waveform)).argmax() * rate / len(waveform)


def test_the_sound_of_a_hit_is_cut_out_of_its_recording(tmp_path, recording):
    waveform, rate = hit(recording, 1.0, 2.0).audio()
    assert (len(waveform), rate, waveform.dtype) == (48_000, 48_000, np.float32)
    assert pitch(waveform, rate) == pytest.approx(3000, abs=2)
    waveform, rate = hit(recording, 0.0, 1.0).audio(16_000)
    assert waveform == pytest.approx(tone(300), abs=1e-4)
    for name in ("cut.wav", "cut.FLAC", "deeper/cut.ogg"):
        path = hit(recording, 1.0, 2.0).save(tmp_path / name)
        samples, rate = soundfile.read(path)
        assert (len(samples), rate) == (48_000, 48_000)
        assert pitch(samples, rate) == pytest.approx(3000, abs=2)
    with pytest.raises(OutputError, match="has to end in"):
        hit(recording).save(tmp_path / "cut.mp3")


def test_a_hit_that_cannot_be_played_says_why(tmp_path, recording):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    for uri, reason in [
        (tmp_path / "moved.wav", "not there any more"),
        (tmp_path, "no file"),
        (pipe, "no file"),
        ("reference://x", "opened only where it is typed"),
        ("file:///etc/passwd", "opened only where it is typed"),
        ("two tones.wav", "relative to nothing"),
        ("/a\0b.wav", "NUL"),
        (__file__, "not a recording|decoded|cannot be read"),
    ]:
        with pytest.raises(AudioError, match=reason):
            hit(uri).audio()
    with pytest.raises(AudioError, match=r"lasts 2\.00 s"):
        hit(recording, 5.0, 6.0).audio()
    with pytest.raises(QueryError, match="is a text"):
        hit(recording, None, None, kind="text").audio()


def test_hits_are_a_list_a_table_and_a_data_frame(database):
    table = table_of(database, unit_vectors(5))
    table.upsert(rows(unit_vectors(5), tags=[["a", "b"]] * 5, price=[1.5, None, float("nan"), 2.0, 3.0]))
    hits = Index(table).search_vectors(unit_vectors(1), 5)[0]
    assert isinstance(hits[1:3], Hits)
    assert hits[1:3] == list(hits)[1:3]
    lines = repr(hits).splitlines()
    assert len(lines) == 6
    assert re.search(r"1 +1\.000 +000000\.wav +0:00\.0-0:01\.0 +text 000000$", lines[1])
    assert repr(Hits()) == "no hits"
    assert repr(Hits(hits[:1], notes=["the recording is silent"])).startswith("the recording is silent\n")
    dicts = hits.to_dicts()
    assert [row["id"] for row in dicts] == [hit.id for hit in hits]
    frame, arrow = hits.to_pandas(), hits.to_arrow()
    assert frame["id"].tolist() == arrow["id"].to_pylist() == [hit.id for hit in hits]
    assert list(frame.columns) == arrow.schema.names == list(dicts[0])
    assert arrow.schema.field("tags").type == pa.list_(pa.string())
    assert (len(Hits().to_pandas()), Hits().to_arrow().num_rows, Hits().to_dicts()) == (0, 0, [])


def test_a_notebook_shows_hits_with_players_and_nothing_of_a_stranger(tmp_path, recording, monkeypatch):
    evil = "<script>alert(1)</script>\"' onerror=x \x1b[31m"
    html = hits_of(
        hit(recording, 1.0, 2.0, text=evil),
        hit(f"/{evil}.wav", rank=2),
        hit("https://host/<img src=x>.wav", rank=3),
        label=evil,
    )._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "\x1b" not in html
    (sound,) = re.findall(r'<audio controls preload="none" src="data:audio/wav;base64,([^"]+)"></audio>', html)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
    assert len(samples) / rate == 1.0
    assert pitch(samples, rate) == pytest.approx(3000, abs=2)
    assert "not there any more" in html
    many = hits_of(*(hit(recording, 0.0, 1.0, rank=rank) for rank in range(1, 20)))
    assert many._repr_html_().count("<audio") == display.MAX_PLAYERS
    hour = tmp_path / "hour.wav"
    soundfile.write(hour, np.zeros(8000 * 300, np.int16), 8000)
    assert len(hits_of(hit(hour, 0.0, 300.0))._repr_html_()) < 1_500_000  # 30 s are played
    monkeypatch.setattr(display, "_PLAYER_FILE_BYTES", 1000)
    assert "too large to be played here" in hits_of(hit(recording))._repr_html_()


def test_raven_reads_a_selection_table_for_each_recording(tmp_path):
    found = hits_of(
        hit("/a/bark.wav", 7.0, 9.5, "two\tdogs\nbark", 1),
        hit("/a/bark.wav", 1.0, 2.0, None, 2),
        hit("https://host/x/other.flac?key=1", 0.0, 3.0, None, 3),
        hit("/texts.txt", None, None, "a text", 4, "text"),
    )
    exported = export_hits([found], tmp_path / "out", "raven")
    assert [path.name for path in exported.files] == ["bark.Table.1.selections.txt", "other.Table.1.selections.txt"]
    assert exported.skipped == ["/texts.txt: a text has no time"]
    table = list(csv.DictReader(exported.files[0].open(encoding="utf-8"), delimiter="\t"))
    assert [(row["Selection"], row["Begin Time (s)"], row["End Time (s)"]) for row in table] == [
        ("1", "1.000000", "2.000000"),
        ("2", "7.000000", "9.500000"),
    ]
    assert {(row["View"], row["Channel"], row["Low Freq (Hz)"], row["High Freq (Hz)"]) for row in table} == {
        ("Spectrogram 1", "1", "0", "8000")
    }
    assert (table[1]["Begin File"], table[1]["Query"], table[1]["Text"]) == ("bark.wav", "a dog", "two dogs bark")


def test_audacity_reads_a_label_track_for_each_recording(tmp_path):
    found = hits_of(hit("/a/bark.wav", 7.0, 9.5), hit("/b/BARK.flac", 1.0, 2.0, rank=2), label="dog\tor\ncat")
    exported = export_hits([found], tmp_path / "out", "audacity")
    assert [path.name for path in exported.files] == ["bark.txt", "BARK-2.txt"]
    assert exported.files[0].read_text(encoding="utf-8") == "7.000000\t9.500000\tdog or cat 0.750\n"


def test_csv_and_clips_hold_every_hit(tmp_path, recording):
    found = hits_of(
        hit(recording, 1.0, 2.0, 'a "quoted", text', tags=["x", "y"], loudness=float("nan")),
        hit(tmp_path / "moved.wav", rank=2),
    )
    (path,) = export_hits([found], tmp_path / "csv", "csv").files
    table = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    assert [row["uri"] for row in table] == [str(recording), str(tmp_path / "moved.wav")]
    assert (table[0]["text"], table[0]["tags"], table[0]["loudness"]) == ('a "quoted", text', '["x", "y"]', "")
    exported = export_hits([found], tmp_path / "clips", "clips")
    assert [path.name for path in exported.files] == ["001 two tones 1.0s.wav"]
    assert pitch(*soundfile.read(exported.files[0])) == pytest.approx(3000, abs=2)
    assert "not there any more" in exported.skipped[0]


FORMULA_START = r"[=+\-@\t\r\n＝＋－＠]"  # noqa: RUF001
FORMULAS = ["=HYPERLINK(A1)", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "＝1+1", "'=1", "''-x", "=cmd|' /C calc'!A0"]  # noqa: RUF001


@pytest.mark.parametrize("text", [*FORMULAS, "-5", "+1e3", "a=b", "'tis", "'", "5-3", "-"])
def test_a_text_is_no_formula_to_a_spreadsheet_and_reads_back_as_it_was(tmp_path, text):
    found = hits_of(hit(f"/a/{text.replace('/', '')}", -1.0, 2.0, text, **{text: text, "loudness": -3.5}), label=text)
    (path,) = export_hits([found], tmp_path / "csv", "csv").files
    header, row = csv.reader(path.open(encoding="utf-8", newline=""))
    numbers = {row[header.index("start_s")], row[header.index("loudness")]}
    assert numbers == {"-1.0", "-3.5"}
    assert not [cell for cell in {*header, *row} - numbers - {"-5", "+1e3"} if re.match(FORMULA_START, cell)]
    (read,) = read_table(str(path))
    assert (read.values["text"], read.values[text.strip()]) == (text.strip(), text.strip())
    for file_format in ("raven", "audacity"):
        (path,) = export_hits([found], tmp_path / file_format, file_format).files
        cells = {cell for line in path.read_text(encoding="utf-8").splitlines() for cell in line.split("\t")}
        assert not [cell for cell in cells - {"-5", "+1e3", "-1.000000"} if re.match(FORMULA_START, cell)]


HOSTILE_NAMES = ["../../evil", "..", ".", "", "/etc/passwd", "a/../b", "C:\\evil", "CON", "nul.txt", "\0", "\x1b[2J"]
HOSTILE_NAMES += [
    "a" * 500,
    "\U00020000" * 90,
    "ü\u0308" * 90,
    "-rf *",
    "x\ny",
    "  ",
    "...",
    "\u202egpj.exe",
    "\ud800",
    "~root",
    "a:b|c?",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: repr(name[:12]))
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    safe = safe_name(name)
    assert safe not in ("", ".", "..")
    assert not set(safe) & set('/\\:*?"<>|\0\n\r\t\x1b\u202e')
    assert not safe.startswith(".")
    assert len(safe.encode()) <= 181
    before = sorted(tmp_path.rglob("*"))
    uris = [name, f"/{name}.wav", f"https://host/{name}"]
    for file_format in FORMATS:
        folder = tmp_path / "out" / file_format
        local = uris[:2] if file_format == "clips" else uris  # a test reaches no host
        found = hits_of(*(hit(uri, rank=rank) for rank, uri in enumerate(local, start=1)), label=name)
        found = hits_of(hit(name), hit(f"https://host/{name}", rank=2), hit(f"/{name}.wav", rank=3), label=name)
        for results in ([found], [found, found]):
            for path in export_hits(results, folder, file_format).files:
                assert path.resolve().is_relative_to(folder.resolve())
    assert [path for path in sorted(tmp_path.rglob("*")) if "out" not in path.relative_to(tmp_path).parts] == before


def test_an_export_does_not_write_through_a_link(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "victim").write_text("kept", encoding="utf-8")
    for name in ("bark.txt", "bark.txt.partial"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "victim")
    export_hits([hits_of(hit("/a/bark.wav"))], tmp_path / "out", "audacity")
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "kept"
    with pytest.raises(QueryError, match="no export format 'mp3': choose from raven"):
        export_hits([hits_of()], tmp_path, "mp3")
    with pytest.raises(OutputError):
        export_hits([hits_of(hit("/a/bark.wav"))], tmp_path / "victim", "csv")


def test_a_recording_in_a_spare_format_is_written_as_it_is_played(tmp_path):
    path = write_tone(tmp_path / "stereo.flac", 500, channels=2, sample_rate=44_100)
    waveform, rate = hit(path, 0.25, 0.75).audio(44_100)
    assert len(waveform) == 22_050
    assert pitch(waveform, rate) == pytest.approx(500, abs=3)


@pytest.mark.parametrize(
    "times", [(np.nan, 1.0), (0.0, np.nan), (np.inf, np.inf), (-1e308, 5.0), (1e308, np.inf)], ids=str
)
def test_times_that_are_none_are_shown_and_cost_only_their_sound(tmp_path, recording, times):
    found = hits_of(hit(recording, *times))
    assert recording.name in str(found)
    assert "is no time in a recording" in found._repr_html_()
    with pytest.raises(AudioError, match=f"{recording}: .* s is no time in a recording"):
        found[0].audio()
    for file_format in FORMATS:
        exported = export_hits([found], tmp_path / file_format, file_format)
        assert bool(exported.skipped) == (file_format == "clips")
