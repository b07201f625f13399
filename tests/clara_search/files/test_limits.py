"""The table of limits, what raises them, and their documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from clara_search.commands.options import limit_option, name_options
from clara_search.errors import AudioError, ConfigError, FormatError
from clara_search.files.limits import (
    AUDIO_SECONDS,
    GIB,
    JSON_BYTES,
    KIB,
    LIMITS,
    MIB,
    changed_limits,
    limits,
    parse_limit,
    set_limits,
)
from tests.helpers import ROOT

PAGE = ROOT / "docs" / "robustness.md"


def format_value(name: str, value: int) -> str:
    """Return a limit as the documentation shows it: bytes in the largest unit that divides them."""
    if name.endswith("bytes"):
        size, unit = next(
            (size, unit) for size, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")) if value % size == 0
        )
        return f"{value // size} {unit}"
    return f"{value:,}"


def test_the_documentation_lists_all_limits_as_they_are() -> None:
    table = [
        f"| `{limit.name}` | {format_value(limit.name, limit.default)} | {limit.what} | {limit.reason} |"
        for limit in LIMITS.values()
    ]
    shown = re.findall(r"^\| `\w+` \| .*$", PAGE.read_text(encoding="utf-8").partition("## Limits")[2], re.MULTILINE)
    assert shown == table, "docs/robustness.md must have:\n" + "\n".join(table)


def test_a_limit_holds_up_to_its_value_and_names_itself_above() -> None:
    AUDIO_SECONDS.check(86_400.0, "a.wav", AudioError)
    with pytest.raises(AudioError) as caught:
        AUDIO_SECONDS.check(86_401.0, "a.wav", AudioError)
    assert str(caught.value) == (
        "a.wav: 86,401 seconds of a recording, where at most 86,400 are expected; if the file can be trusted, allow "
        "more with `limit` audio_seconds=NUMBER"
    )
    assert "with --limit audio_seconds=NUMBER" in name_options(str(caught.value))
    for found in (float("nan"), float("inf"), 1 << 70):
        with pytest.raises(FormatError):
            AUDIO_SECONDS.check(found, "a.wav")
    assert "more than 50,331,648 bytes of a JSON file" in str(JSON_BYTES.exceeded("a.json"))


def test_a_context_raises_and_lowers_limits_and_ends() -> None:
    with limits(audio_seconds=200_000, json_bytes=10):
        assert (AUDIO_SECONDS.value, JSON_BYTES.value) == (200_000, 10)
        with pytest.raises(FormatError, match="at most 5"), limits(audio_seconds=5):
            AUDIO_SECONDS.check(6, "a.wav")
        assert changed_limits() == {"audio_seconds": 200_000, "json_bytes": 10}
    assert (AUDIO_SECONDS.value, JSON_BYTES.value, changed_limits()) == (86_400, 48 * MIB, {})


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5", 1 << 80])
def test_a_value_that_is_no_positive_whole_number_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="positive whole number"):
        set_limits({"json_bytes": value})  # type: ignore[dict-item]
    assert not changed_limits()


def test_an_unknown_limit_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'audio_seconds'"):
        set_limits({"audio_second": 5})


def test_values_are_parsed_with_units() -> None:
    assert parse_limit("json_bytes=100MiB") == ("json_bytes", 100 * MIB)
    assert parse_limit(" audio_seconds = 200_000 ") == ("audio_seconds", 200_000)
    for text in ("json_bytes", "json_bytes=", "json_bytes=-1", "json_bytes=1e9", "json_bytes=²", "a=" + "9" * 5000):
        with pytest.raises(ConfigError, match="is no limit"):
            parse_limit(text)


def test_the_option_sets_limits_for_one_command() -> None:
    @click.command()
    @limit_option
    def show() -> None:
        click.echo(f"{AUDIO_SECONDS.value} {JSON_BYTES.value}")

    run = CliRunner().invoke
    assert run(show, ["--limit", "audio_seconds=5", "--limit", "json_bytes=1KiB"]).output == "5 1024\n"
    assert run(show, []).output == f"86400 {48 * MIB}\n"
    refused = run(show, ["--limit", "audio_secs=5"])
    assert (refused.exit_code, "did you mean 'audio_seconds'" in refused.output) == (2, True)


PROGRAMS = {
    "clara-search": "clara_search.commands.main",
    **{name: f"{name}.__main__" for name in ("trainer", "benchmarks")},
}


def commands_of(program: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each command of a program, those of its groups too, with the names of its parameters."""
    group = import_module(PROGRAMS[program]).main
    for name in group.homes:
        command = group.get_command(click.Context(group), name)
        inner = command.commands if isinstance(command, click.Group) else {"": command}
        for second, each in inner.items():
            names = [opt for parameter in each.params for opt in parameter.opts]
            assert len(names) == len(set(names))
            yield f"{name} {second}".strip(), set(names)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_can_raise_limits(program: str) -> None:
    assert [name for name, options in commands_of(program) if "--limit" not in options] == []


def test_every_command_that_opens_urls_out_of_data_can_be_allowed_more() -> None:
    opens = {name for name, options in commands_of("clara-search") if "--trust" in options}
    assert opens == {"index", "search", "classify", "db verify"}
    for program in ("trainer", "benchmarks"):
        for name, options in commands_of(program):
            assert ("--trust" in options) == ("--data" in options or name == "make-shards"), name
            assert {"--allow-private", "--allow-protocol"} <= options or "--trust" not in options


def test_a_benchmark_reads_a_private_host_that_a_manifest_names_only_where_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,text\nhttp://127.0.0.1:9/a.wav,a tone\n")
    command = import_module("benchmarks.__main__").main
    arguments = ["retrieval", "--data", str(tmp_path / "m.csv"), "--split", "all"]
    refused, reached = (CliRunner().invoke(command, [*arguments, *more]) for more in ((), ("--allow-private",)))
    assert "is not opened" in refused.output
    assert "is not opened" not in reached.output
    assert reached.exit_code == refused.exit_code == 1
