"""Model types of other packages: found by their entry point, indexed with, searched with."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from clara_search import open as open_index
from clara_search.commands.main import main
from clara_search.errors import DeviceError, FormatError, UnknownModel
from clara_search.models.base import Encoder
from clara_search.models.clara.encoder import ClaraEncoder
from clara_search.models.registry import describe_model, load_encoder, model_card, model_types
from indexer import index
from tests.helpers import write_tone


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on `sys.path`, for packages to be installed into."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def install(site: Path, package: str, **entry_points: str) -> None:
    """Write the dist-info that pip writes."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    points = "".join(f"{name.replace('_', '-')} = {value}\n" for name, value in entry_points.items())
    (info / "entry_points.txt").write_text(f"[clara_search.encoders]\n{points}")


@pytest.fixture
def plugin(site: Path) -> None:
    shutil.copy(Path(__file__).with_name("pitch_bands.py"), site / "pitch_bands_plugin.py")
    install(site, "pitch_bands", pitch_bands="pitch_bands_plugin:PitchBands")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "seven"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "pitch-bands", "bands": 7}))
    (path / "README.md").write_text("---\nlicense: mit\n---\n# Seven octaves\n")
    return path


@pytest.mark.usefixtures("plugin")
def test_a_folder_goes_to_the_type_that_its_config_states(folder: Path) -> None:
    encoder = load_encoder(folder)
    assert isinstance(encoder, Encoder)
    assert (type(encoder).__name__, encoder.name, encoder.dim) == ("PitchBands", "seven", 7)
    described = describe_model(folder)
    assert (described["model_type"], described["licence"], described["dim"]) == ("pitch-bands", "mit", 7)
    assert described["fingerprint"] == encoder.fingerprint
    assert described["folder"] == str(folder.resolve())


@pytest.mark.usefixtures("plugin")
def test_a_source_without_a_folder_is_named_by_its_type(folder: Path) -> None:
    encoder = load_encoder("pitch-bands:5")
    assert (encoder.name, encoder.dim) == ("pitch-bands:5", 5)
    assert "folder" not in describe_model("pitch-bands:5")
    assert model_card("pitch-bands:5") == ""
    assert load_encoder(f"pitch-bands:{folder}").name == "seven"
    with pytest.raises(UnknownModel, match="pitch-bands:many: expected a number of bands"):
        load_encoder("pitch-bands:many")
    with pytest.raises(DeviceError, match="not in bf16"):
        load_encoder("pitch-bands:5", precision="bf16")


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("by_name", [True, False], ids=["by name", "by folder"])
def test_a_corpus_is_indexed_and_searched_with_it(tmp_path: Path, folder: Path, by_name: bool) -> None:
    model = "pitch-bands:8" if by_name else str(folder)
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for frequency in (110, 440, 1760):
        write_tone(recordings / f"{frequency}.wav", frequency)
    summary = index(recordings, tmp_path / "db", model)
    assert summary.indexed == 3
    with pytest.raises(UnknownModel, match="as it is recorded, is not loaded"):  # "TYPE:SOURCE" of a table
        _ = open_index(tmp_path / "db").encoder
    opened = open_index(tmp_path / "db", model=model)
    assert [Path(opened.search(f"{pitch} Hz", k=1)[0].uri).stem for pitch in (120, 430, 1800)] == ["110", "440", "1760"]
    arguments = ["search", "440 Hz", "--db", str(tmp_path / "db"), "--json", "--model", model]
    result = CliRunner().invoke(main, arguments)
    assert Path(json.loads(result.stdout.splitlines()[0])["uri"]).stem == "440", result.output


@pytest.mark.usefixtures("plugin")
def test_models_show_prints_it(folder: Path) -> None:
    result = CliRunner().invoke(main, ["models", "show", str(folder), "--json"])
    assert json.loads(result.stdout)["model_type"] == "pitch-bands", result.output


@pytest.mark.usefixtures("plugin")
def test_an_encoder_of_another_package_can_be_pickled(folder: Path) -> None:
    encoder = load_encoder(folder)
    assert pickle.loads(pickle.dumps(encoder)).fingerprint == encoder.fingerprint


def test_a_type_that_nobody_registers_is_an_error_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(UnknownModel, match=r"seven: model type 'pitch-bands' is not known: .* reads clap, clara$"):
        load_encoder(folder)
    with pytest.raises(UnknownModel, match=r"TYPE:SOURCE of a registered type \(clap, clara\)"):
        load_encoder("pitch-bands:5")
    (folder / "config.json").write_text("{}")
    with pytest.raises(FormatError, match="states no model_type"):
        load_encoder(folder)


def test_a_package_that_cannot_be_imported_is_one_line_and_hinders_no_other_model(site: Path, folder: Path) -> None:
    (site / "broken_plugin.py").write_text("raise RuntimeError('no such library\\nat all')")
    install(site, "broken", pitch_bands="broken_plugin:PitchBands")
    with pytest.raises(UnknownModel, match=r"broken_plugin:PitchBands, which cannot be imported \(no such library\)$"):
        load_encoder(folder)
    assert describe_model("clara-small")["model_type"] == "clara"


@pytest.mark.usefixtures("plugin")
def test_two_packages_cannot_register_one_type(site: Path, folder: Path) -> None:
    install(site, "other", pitch_bands="other_plugin:PitchBands")
    with pytest.raises(UnknownModel, match=r"registered by two packages \(other_plugin:.*, pitch_bands_plugin:"):
        load_encoder(folder)


def test_a_package_cannot_replace_a_type_of_ours(site: Path) -> None:
    install(site, "thief", clara="thief:Encoder")
    assert isinstance(load_encoder("clara-small", "cpu"), ClaraEncoder)
    assert model_types() == ["clap", "clara"]


def test_a_description_without_a_required_fact_is_an_error(site: Path, folder: Path) -> None:
    program = "class PitchBands:\n    @classmethod\n    def describe(cls, source): return {'name': 'x', 'dim': 2}\n"
    (site / "silent_plugin.py").write_text(program)
    install(site, "silent", pitch_bands="silent_plugin:PitchBands")
    with pytest.raises(FormatError, match="its description lacks sample_rate, fingerprint"):
        describe_model(folder)
