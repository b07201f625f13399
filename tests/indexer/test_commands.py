from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clara_search.commands.main import main
from clara_search.store.database import Database
from tests.helpers import ToneEncoder, write_tone


@pytest.fixture(autouse=True)
def tone_is_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "clara_search.models.registry.load_encoder",
        lambda model, *_, **__: ToneEncoder("2" if model == "other" else "1"),
    )


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["index", *map(str, arguments)])


def test_json_is_one_summary_line(recordings: Path, tmp_path: Path) -> None:
    result = run(recordings, "--db", tmp_path / "new" / "db", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert list(summary)[:7] == ["indexed", "unchanged", "failed", "removed", "rows", "audio_s", "seconds"]
    assert (summary["indexed"], summary["rows"], summary["audio_s"]) == (3, 3, 3.0)


def test_people_get_a_sentence_and_the_first_failures(recordings: Path, tmp_path: Path) -> None:
    for number in range(23):
        (recordings / f"bad{number:02}.wav").write_bytes(b"")
    result = run(recordings, "--db", tmp_path / "db")
    assert result.exit_code == 0
    assert "3 indexed" in result.stdout
    assert "23 failed" in result.stdout
    assert "bad00.wav: the file is empty" in result.stderr
    assert "bad19.wav" in result.stderr
    assert "bad20.wav" not in result.stderr
    assert f"and 3 more: clara-search db info --db {tmp_path / 'db'} --table corpus --failures" in result.stderr


def test_failures_are_an_error_with_strict_or_where_nothing_else_is_left(recordings: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "empty.wav").write_bytes(b"")
    assert run(recordings, bad, "--db", tmp_path / "db").exit_code == 0
    assert run(recordings, bad, "--db", tmp_path / "db", "--strict").exit_code == 1
    assert run(recordings, "--db", tmp_path / "db", "--strict").exit_code == 0
    assert run(bad, "--db", tmp_path / "db").exit_code == 1


def test_the_windows_and_the_table_are_as_asked(recordings: Path, tmp_path: Path) -> None:
    assert (
        run(recordings, "--db", tmp_path / "db", "--table", "fine", "--window", "0.5", "--hop", "0.25").exit_code == 0
    )
    table = Database(tmp_path / "db").table("fine")
    assert (table.info.window_s, table.info.hop_s, table.count()) == (0.5, 0.25, 9)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["nowhere"], 1, "nowhere: no such file or folder"),
        (["broken.csv"], 1, "broken.csv: has no column that names recordings or holds texts (it has code)"),
        (["recordings", "--model", "other"], 1, "built by tone"),
        (["recordings", "--window", "7"], 1, "windows of 10 s every 5 s"),
        (["recordings", "--window", "-1"], 2, "must be above 0"),
        (["recordings", "--window", "1", "--hop", "2"], 2, "no longer than --window"),
        ([], 2, "SOURCE"),
    ],
)
def test_a_mistake_is_one_clear_line(
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    exit_code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.csv").write_text("code\n7\n")
    assert run("recordings", "--db", "db").exit_code == 0
    result = run(*arguments, "--db", "db")
    assert result.exit_code == exit_code
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_mistake_leaves_no_database_behind(tmp_path: Path) -> None:
    assert run(tmp_path / "nowhere", "--db", tmp_path / "db").exit_code == 1
    assert not (tmp_path / "db").exists()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom clara_search.commands.main import main\n"
        "try: main(['index', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'lancedb', 'numpy', 'pyarrow', 'soundfile'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "SOURCE..." in result.stdout
    assert result.stdout.strip().endswith("[]")


def test_the_summary_says_how_long_each_stage_worked_and_the_profile_draws_it(recordings: Path, tmp_path: Path) -> None:
    picture = tmp_path / "out" / "run.png"
    result = run(recordings, "--db", tmp_path / "db", "--json", "--timeline", picture)
    stages = json.loads(result.stdout)["stages"]
    assert list(stages) == ["list", "decode", "encode", "write"]
    assert all(stage["worked_s"] >= 0 and stage["waited_s"] >= 0 for stage in stages.values())
    assert stages["encode"]["worked_s"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_failures_are_tried_again_without_naming_their_sources(recordings: Path, tmp_path: Path) -> None:
    bad = recordings / "bad.wav"
    bad.write_text("no sound")
    os.utime(bad, (1.6e9, 1.6e9))
    assert run(recordings, "--db", tmp_path / "db").exit_code == 0
    write_tone(bad)
    result = run("--retry-failed", "--db", tmp_path / "db", "--json")
    assert json.loads(result.stdout)["indexed"] == 1
    assert "No failed items" in run("--retry-failed", "--db", tmp_path / "db").stdout


def test_a_table_is_compacted_where_its_state_asks_for_it_unless_told_not_to(tmp_path: Path) -> None:
    """A run a file leaves files behind."""
    counts = dict[str, int]()
    for how in ("auto", "never"):
        for number in range(12):
            write_tone(tmp_path / how / f"{number}.wav", 200 + 50 * number, duration_s=0.2)
            arguments = ["--db", tmp_path / f"{how}.db", "--optimize", how, "--retain-days", "0"]
            assert run(tmp_path / how, *arguments).exit_code == 0
        counts[how] = sum(path.is_file() for path in (tmp_path / f"{how}.db").rglob("*"))
        assert Database(tmp_path / f"{how}.db").table().count() == 12
    assert counts["auto"] < 30 < 80 < counts["never"]
    assert CliRunner().invoke(main, ["db", "optimize", "--db", f"{tmp_path / 'never.db'}"]).exit_code == 0
    assert run(tmp_path / "never", "--db", tmp_path / "never.db").exit_code == 0


def test_there_is_no_watching_and_the_error_says_what_there_is(recordings: Path, tmp_path: Path) -> None:
    result = run(recordings, "--db", tmp_path / "db", "--watch")
    assert result.exit_code == 2
    assert "There is no --watch: run the same command by cron or a systemd timer" in result.stderr
    assert not (tmp_path / "db").exists()
