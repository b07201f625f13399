"""Models that tables, heads and recipes name: loaded from this machine or not at all, unless a user types them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from clara_search.classification.head import Head, HeadConfig
from clara_search.classification.head_files import save_head
from clara_search.commands.main import main
from clara_search.errors import UnknownModel
from clara_search.models.recorded import RecordedModel
from clara_search.models.registry import DEFAULT_MODEL, describe_model, load_encoder
from clara_search.store.database import Database
from clara_search.store.table import TableInfo
from indexer.pipeline import index
from tests.clara_search.models.test_hub import MODEL, Hub, cache, server
from tests.helpers import write_tone
from trainer.config.recipe import load_recipe

__all__ = ["cache", "server"]  # fixtures

FINGERPRINT = describe_model(DEFAULT_MODEL)["fingerprint"]

HOSTILE = [
    "lab/small",
    "lab/small@v1",
    "../m",
    "sub/../../m",
    "//host/share/m",
    "\\\\host\\share\\m",
    "http://127.0.0.1:9/m",
    "s3://bucket/m",
    "file:///etc",
    "clap:lab/small",
    "/dev",
    "/proc/self",
    "\x1b[2Jm",
    "m\0n",
    "x" * 5000,
    "",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the model `m` beside it and in it."""
    (tmp_path / "here").mkdir()
    for copy in (tmp_path / "m", tmp_path / "here" / "m"):
        shutil.copytree(MODEL, copy)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_recorded_name_reaches_neither_the_hub_nor_a_folder_elsewhere(
    server: ThreadingHTTPServer, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(UnknownModel, match=r"as it is recorded, is not loaded: .* as `model` to load"):
        load_encoder(RecordedModel(name, FINGERPRINT))
    assert Hub.requests == []


def test_a_recorded_model_is_loaded_from_this_machine_with_the_recorded_fingerprint_only(
    server: ThreadingHTTPServer, folder: Path
) -> None:
    load_encoder("lab/small")
    Hub.requests.clear()
    for name in (DEFAULT_MODEL, "lab/small", "m", str(folder / "m")):
        recorded = RecordedModel(name, FINGERPRINT)
        encoder = load_encoder(recorded)
        assert encoder.fingerprint == FINGERPRINT
        assert encoder.name == (name if name == "lab/small" else DEFAULT_MODEL)
        for fingerprint in ("0" * 64, ""):
            if name != DEFAULT_MODEL:  # the bundled one is compared by whoever uses it
                with pytest.raises(UnknownModel, match="the one on this machine has another fingerprint"):
                    load_encoder(replace(recorded, fingerprint=fingerprint))
    (folder / "m" / "config.json").write_text("{")
    with pytest.raises(UnknownModel, match="the one on this machine cannot be used"):
        load_encoder(RecordedModel("m", FINGERPRINT))
    assert Hub.requests == []


def test_commands_over_a_table_or_head_that_names_a_model_of_the_hub_say_what_to_type(
    server: ThreadingHTTPServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    recording = write_tone(folder / "in" / "a.wav", 300)
    index([folder / "in"], folder / "good")
    rows = Database(folder / "good").table()
    recorded = RecordedModel("lab/small", FINGERPRINT)
    table = Database(folder / "db", create=True).create_table("corpus", TableInfo(recorded, rows.info.dim, 10.0, 5.0))
    table.upsert(rows.scan(rows.schema.names))
    save_head(folder / "head", Head(HeadConfig("linear", "audio", {"x": ("a", "b")}, rows.info.dim, recorded)))
    commands = [
        ["search", "rain", "--db", "db"],
        ["index", str(recording), "--db", "db"],
        ["classify", "--db", "db", "--labels", "a,b"],
        ["classify", str(recording), "--head", "head"],
        ["db", "verify", "--db", "db"],
    ]
    for command in commands:
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 1, result.output
        assert "as it is recorded, is not loaded" in result.output
        assert "name a model that you trust as --model" in result.output
        assert Hub.requests == []
    for command in commands:
        result = CliRunner().invoke(main, [*command, "--model", "lab/small"])
        assert result.exit_code == 0, result.output
    assert Hub.requests != []


def test_a_recipe_names_a_model_of_the_hub_only_where_it_is_typed(server: ThreadingHTTPServer, folder: Path) -> None:
    recipe = folder / "r.toml"
    recipe.write_text('name = "r"\n[init]\nfrom = "lab/small"\n')
    with pytest.raises(UnknownModel, match="is downloaded only where it is typed: give it as `init`"):
        load_recipe(recipe)
    assert Hub.requests == []
    assert load_recipe(recipe, ('init.from="lab/small"',)).init.from_ == "lab/small"
    assert Hub.requests != []
