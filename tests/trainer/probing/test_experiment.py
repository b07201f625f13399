"""From a collection as it is published to a head that names recordings: speech, films, corrupt files and all."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from click.testing import CliRunner, Result

from clara_search.audio.decode import load_audio
from clara_search.audio.waveform import Waveform
from clara_search.classification.head import load_head
from clara_search.commands.main import main as clara_search
from clara_search.errors import ClaraError, ConfigError, OutputError, SourceError
from clara_search.models.clara.checkpoint import load_model, save_model
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import load_encoder
from clara_search.models.training_sources import training_sources
from clara_search.text.tokenizer import Tokenizer
from tests.clara_search.datasets.published import MELD_HEADER
from tests.helpers import write_tone
from tests.trainer.pretraining.test_run import RECIPE
from trainer.__main__ import main as trainer
from trainer.phones.espeak import speak
from trainer.probing.experiment import ProbeConfig
from trainer.probing.finetune import unfreeze
from trainer.probing.run import probe
from trainer.probing.sgd import FitConfig
from trainer.runtime.folder import run_lock

SAID = {"joy": "what a wonderful day", "sadness": "it is raining and I am alone", "anger": "get out of my house"}
VOICES = ("en+f2", "en+m3", "en-us+f4", "en-us+m1", "en-gb-scotland+m7", "en-gb-x-rp+f5")


def film(path: Path, waveform: Waveform | None, rate: int, container: str = "mp4") -> Path:
    """Write an mp4 with a moving picture and, where there is a waveform, an AAC track."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", format=container) as file:
        video = file.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = None if waveform is None else file.add_stream("aac", rate=rate, layout="mono")
        for number in range(5):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * number, np.uint8), format="rgb24")
            file.mux(video.encode(picture))
        file.mux(video.encode())
        if audio is not None and waveform is not None:
            frame = av.AudioFrame.from_ndarray(waveform[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate = rate
            file.mux(audio.encode(frame))
            file.mux(audio.encode())
    return path


def run(group: object, *arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(group, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def meld(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MELD in small: three utterances, each an emotion, by each voice; two films are corrupt and one is silent."""
    root = tmp_path_factory.mktemp("MELD.Raw")
    folders = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
    rows: dict[str, list[str]] = {split: [] for split in folders}
    for place, voice in enumerate(VOICES):
        split = ("train", "train", "train", "dev", "test", "test")[place]
        for number, (emotion, words) in enumerate(SAID.items()):
            for speed in (150, 190):
                waveform, rate = speak(words, voice, speed)
                dialogue = f"{place},{number * 1000 + speed}"
                film(root / folders[split] / "dia{}_utt{}.mp4".format(*dialogue.split(",")), waveform, rate)
                sentiment = "positive" if emotion == "joy" else "negative"
                rows[split].append(f'1,"{words}",{voice},{emotion},{sentiment},{dialogue},1,1,a,b\n')
    for split, lines in rows.items():
        (root / f"{split}_sent_emo.csv").write_text(MELD_HEADER + "".join(lines), encoding="utf-8")
    train, test = root / "train_splits", root / "output_repeated_splits_test"
    whole = (train / "dia0_utt150.mp4").read_bytes()
    (train / "dia0_utt150.mp4").write_bytes(whole[: len(whole) // 2])
    (train / "dia1_utt1150.mp4").write_bytes(bytes(range(256)) * 40)
    film(test / "dia5_utt2190.mp4", None, 16000)
    return root


def test_from_films_to_a_head_that_names_recordings(meld: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "meld", tmp_path / "run"
    said = run(trainer, "prepare", "MELD", "--src", meld, "--out", out).output
    assert "33 recordings" in said
    reasons = (out / "left-out.txt").read_text().splitlines()
    assert len(reasons) == 3
    assert sum(".mp4: not a recording that can be decoded" in reason for reason in reasons) == 2
    assert all(reason.count(".mp4") == 1 for reason in reasons)
    assert sum("has no audio track" in reason for reason in reasons) == 1

    manifest = out / "manifest.csv"
    settings = ("--data", manifest, "--cache", tmp_path / "cache", "--run", folder, "--set", "fit.lr=0.01")
    settings = (*settings, "--set", "fit.epochs=30", "--set", "fit.batch_size=8")
    said = run(trainer, "probe", *settings, "--label", "emotion", "--label", "sentiment", "--logger", "mlflow").output
    report = json.loads((folder / "report.json").read_text())
    assert report["division"] == "declared splits"
    assert report["clips"]["folds"] == {"test": [16, 6, 11]}
    assert report["speakers_trained_and_tested"] == {"test": 0}
    assert report["contamination"]["trained_on"] == []
    assert report["vectors_computed"] == 33
    emotion = report["labels"]["emotion"]
    assert emotion["classes"] == ["anger", "joy", "sadness"]
    assert emotion["tested"] == {"anger": 3, "joy": 4, "sadness": 4}
    assert emotion["chance"]["accuracy"] == pytest.approx(1 / 3)
    score = emotion["scores"]["accuracy"]
    assert score["interval"][0] <= score["value"] <= score["interval"][1]
    assert score["value"] >= 6 / 11  # three sentences, which other voices say
    assert "33 clips, declared splits" in said
    for name in ("confusion-emotion.png", "confusion-sentiment.png", "curves.png", "log.csv"):
        assert (folder / name).stat().st_size > 100
    assert list(folder.glob("mlruns/*/*/metrics/valid_uar"))
    (tracked,) = folder.glob("mlruns/*/*/metrics/test_emotion_accuracy")
    assert float(tracked.read_text().split()[1]) == pytest.approx(emotion["scores"]["accuracy"]["value"])
    assert "status: 3" in (tracked.parent.parent / "meta.yaml").read_text()  # finished

    test = [row for row in csv.DictReader(manifest.open(encoding="utf-8")) if row["split"] == "test"]
    files = [out / row["path"] for row in test]
    arguments = ("classify", *files, "--head", folder / "head", "--json")
    named = [json.loads(line) for line in run(clara_search, *arguments).stdout.splitlines()]
    right = sum(one["label"] == row["emotion"] for one, row in zip(named, test, strict=True))
    assert right / len(test) == pytest.approx(score["value"])
    assert all(sum(one["scores"].values()) == pytest.approx(1.0, abs=1e-4) for one in named)
    middle = float(np.median([one["score"] for one in named]))
    unsure = run(clara_search, *arguments, "--min-probability", middle).stdout.splitlines()
    assert [json.loads(line)["label"] for line in unsure] == [
        one["label"] if one["score"] >= middle else None for one in named
    ]
    moods = [json.loads(line) for line in run(clara_search, *arguments, "--task", "sentiment").stdout.splitlines()]
    assert moods[0]["scores"].keys() == {"negative", "positive"}


def test_text_and_both_and_late_are_probed_and_a_head_that_reads_asks_for_the_text(meld: Path, tmp_path: Path) -> None:
    out = tmp_path / "meld"
    run(trainer, "prepare", "meld", "--src", meld, "--out", out)
    for inputs, head in (("text", "logistic"), ("both", "mlp"), ("late", "logistic")):
        config = ProbeConfig(
            str(out / "manifest.csv"),
            ("emotion",),
            fit=FitConfig(head, inputs, lr=0.01, epochs=20, batch_size=8),  # type: ignore[arg-type]
        )
        report = probe(config, tmp_path / inputs, tmp_path / "cache")
        assert report["labels"]["emotion"]["scores"]["accuracy"]["value"] > 0.75  # the text gives it away
    file = next((out / "audio").rglob("*.flac"))
    arguments = ("classify", file, "--head", tmp_path / "text" / "head")
    assert "no text is given" in run(clara_search, *arguments, code=1).output

    def joy(text: str) -> float:
        return float(json.loads(run(clara_search, *arguments, "--text", text, "--json").stdout)["scores"]["joy"])

    assert joy(SAID["joy"]) > joy(SAID["anger"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a few hundred weights, in a folder, whose card lists a source."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    config = replace(RECIPE.model, audio=replace(RECIPE.model.audio, latent_layers=1, frame_layers=1, frame_heads=1))
    card = "---\nlicense: x\ntraining_sources:\n- CREMA-D\n- other\n---\n# small\n"
    save_model(folder, Clara(config), Tokenizer.train(["high tone", "low tone"], 300, ["en"]), card, torch.float32)
    return folder


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """Tones of four speakers, "low" or "high", which any model tells apart, in a manifest."""
    folder = tmp_path / "tones"
    rows = ["path,text,pitch,speaker,source,tags"]
    for number in range(40):
        high = number % 2
        write_tone(folder / f"{number}.wav", (3000 if high else 200) + 10 * number, 0.1)
        tags = '"high,loud"' if high else "low"
        rows.append(f"{number}.wav,a tone,{'high' if high else 'low'},s{number % 8 // 2},crema_d,{tags}")
    (folder / "m.csv").write_text("\n".join(rows) + "\n")
    return folder / "m.csv"


def config(data: Path, model: Path, *labels: str, **fitted: object) -> ProbeConfig:
    fit = FitConfig(lr=0.02, epochs=10, batch_size=8, **fitted)  # type: ignore[arg-type]
    return ProbeConfig(str(data), labels or ("pitch",), str(model), fit=fit)


def test_a_score_on_what_the_model_was_trained_on_is_marked(small: Path, tones: Path, tmp_path: Path) -> None:
    arguments = ("--data", tones, "--label", "pitch", "--model", small, "--run", tmp_path / "run", "--head", "logistic")
    said = run(trainer, "probe", *arguments, "--cache", tmp_path / "cache").output
    assert "CONTAMINATED" in said
    assert "crema_d" in said
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["contamination"]["trained_on"] == ["crema_d"]
    assert report["contamination"]["share"] == 1.0
    assert report["division"] == "speaker-disjoint folds"
    assert set(report["labels"]["pitch"]["folds"]) == {"1", "2", "3", "4"}
    assert report["labels"]["pitch"]["n"] == 40
    tones.write_text(tones.read_text().replace("crema_d", "mine"))
    report = probe(config(tones, small), tmp_path / "run", tmp_path / "cache")
    assert report["contamination"]["share"] == 0.0
    bare = tmp_path / "bare"
    shutil.copytree(small, bare)
    (bare / "README.md").write_text("# nothing is known")
    assert training_sources(bare) is None
    assert probe(config(tones, bare), tmp_path / "run", tmp_path / "cache")["contamination"]["share"] is None


def test_the_bundled_model_s_card_lists_its_sources() -> None:
    assert {"queen_en", "asterisk_en", "hydrogen"} <= set(training_sources("clara-small") or ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("pitch", "mood"), r"no column 'pitch', or nothing in it; it has mood, path, source, speaker, tags, text"),
        ((",high,", ",low,"), r"column 'pitch' leaves nothing to tell apart: low 40"),
        (("tags", "split"), r"the split 'train' is empty"),
    ],
)
def test_bad_labels_are_one_line(
    change: tuple[str, str], message: str, small: Path, tones: Path, tmp_path: Path
) -> None:
    tones.write_text(tones.read_text().replace(*change))
    with pytest.raises((ConfigError, SourceError), match=message):
        probe(config(tones, small), tmp_path / "run", tmp_path / "cache")


def test_what_is_no_number_is_no_label_and_a_row_that_is_no_utf8_is_stepped_over(
    small: Path, tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = [float("nan") if n < 4 else float(n % 2) for n in range(40)]
    columns = {"path": [f"{n}.wav" for n in range(40)], "pitch": numbers, "speaker": [n // 10 for n in range(40)]}
    pa.parquet.write_table(pa.table(columns), tones.parent / "m.parquet")
    report = probe(config(tones.parent / "m.parquet", small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    assert (report["labels"]["pitch"]["classes"], report["labels"]["pitch"]["n"]) == (["0", "1"], 36)
    text = tones.read_text()
    tones.write_bytes(text.replace("2.wav,a tone", "2.wav,a t\xf6ne", 1).encode("latin-1"))
    report = probe(config(tones, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    assert report["labels"]["pitch"]["n"] == 39
    assert "row 3 is not UTF-8" in caplog.text
    tones.write_bytes(text.replace("a tone", "\xf6").encode("latin-1"))
    with pytest.raises(SourceError, match=r"names no recording that can be used .*row 1 is not UTF-8"):
        probe(config(tones, small), tmp_path / "run", tmp_path / "cache")


def test_labels_may_be_formulas_or_chinese(
    small: Path, tones: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    text = tones.read_text().replace("a tone,low", r"a tone,$\no{formula$").replace("a tone,high", "a tone,\u9ad8")
    tones.write_text(text, encoding="utf-8")
    report = probe(config(tones, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    assert report["labels"]["pitch"]["classes"] == [r"$\no{formula$", "\u9ad8"]
    assert (tmp_path / "run" / "confusion-pitch.png").stat().st_size > 100
    assert not [one for one in recwarn if "Glyph" in str(one.message)]


def test_what_would_be_passed_over_in_silence_is_refused(tones: Path, tmp_path: Path) -> None:
    for chosen, several in ((FitConfig("knn", balance="weights"), False), (FitConfig(balance="sampling"), True)):
        with pytest.raises(ValueError, match=r"balanced|count alike"):
            ProbeConfig(str(tones), ("pitch",), fit=chosen, multi_label=several)


def test_a_manifest_with_tabs_has_labels_too(small: Path, tones: Path, tmp_path: Path) -> None:
    tabs = tones.with_suffix(".tsv")
    tabs.write_text(tones.read_text().replace('"high,loud"', "loud").replace(",", "\t"))
    report = probe(config(tabs, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    assert report["labels"]["pitch"]["n"] == 40


def test_a_folder_holds_one_run_at_a_time_and_nothing_of_an_earlier_one(
    small: Path, tones: Path, tmp_path: Path
) -> None:
    wanted = config(tones, small, head="logistic")
    with run_lock(tmp_path / "run"), pytest.raises(OutputError, match="another process trains there"):
        probe(wanted, tmp_path / "run", tmp_path / "cache")
    tones.write_text(tones.read_text().replace('"high,loud"', "loud"))
    probe(replace(wanted, labels=("pitch", "tags")), tmp_path / "run", tmp_path / "cache")
    probe(wanted, tmp_path / "run", tmp_path / "cache")
    assert [path.name for path in (tmp_path / "run").glob("confusion-*")] == ["confusion-pitch.png"]


def test_a_class_that_occurs_once_is_left_out_and_said_so(small: Path, tones: Path, tmp_path: Path) -> None:
    tones.write_text(tones.read_text().replace("a tone,low", "a tone,middle", 1))
    arguments = ("--data", tones, "--label", "pitch", "--model", small, "--run", tmp_path / "run", "--head", "knn")
    said = run(trainer, "probe", *arguments, "--cache", tmp_path / "cache").output
    assert "pitch: too few clips, left out: middle (1)" in said
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["labels"]["pitch"]["classes"], report["labels"]["pitch"]["n"]) == (["high", "low"], 39)


def test_a_class_that_is_tested_but_never_trained_on_counts_as_wrong_and_is_named(
    small: Path, tones: Path, tmp_path: Path
) -> None:
    lines = tones.read_text().splitlines()
    rows = [f"{line},{('train', 'train', 'valid', 'test')[n // 10]}" for n, line in enumerate(lines[1:])]
    rows = [row.replace("a tone,high", "a tone,odd") if n in (36, 37, 39) else row for n, row in enumerate(rows)]
    tones.write_text("\n".join([lines[0] + ",split", *rows]) + "\n")
    report = probe(config(tones, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    found = report["labels"]["pitch"]
    assert found["never_trained"] == ["odd"]
    assert found["recall"]["odd"] == 0.0
    assert found["scores"]["accuracy"]["value"] <= 8 / 10


def test_several_labels_a_clip_are_scored_by_map(small: Path, tones: Path, tmp_path: Path) -> None:
    wanted = replace(config(tones, small, "tags", head="logistic"), multi_label=True)
    report = probe(wanted, tmp_path / "run", tmp_path / "cache")
    found = report["labels"]["tags"]
    assert found["classes"] == ["high", "loud", "low"]
    assert found["scores"]["map"]["value"] > found["chance"]["map"] == pytest.approx(0.5)


def test_settings_are_searched_for_on_the_validation_side(small: Path, tones: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `probe` is not installed")
    lines = tones.read_text().splitlines()
    rows = [f"{line},{('train', 'train', 'valid', 'test')[n // 10]}" for n, line in enumerate(lines[1:])]
    tones.write_text("\n".join([lines[0] + ",split", *rows]) + "\n")
    wanted = replace(config(tones, small, head="mlp", hidden=(8,)), trials=3)
    report = probe(wanted, tmp_path / "run", tmp_path / "cache")
    assert report["labels"]["pitch"]["scores"]["accuracy"]["value"] > 0.8
    assert load_head(tmp_path / "run" / "head").config.hidden in ((512, 128), (256, 64), (256,), (128,))
    with pytest.raises(ConfigError, match="chooses its own settings"):
        probe(replace(wanted, fit=FitConfig("knn")), tmp_path / "run", tmp_path / "cache")


@pytest.mark.parametrize("what", ["last:0", "last:1", "lora:2", "all"])
def test_what_is_unfrozen_is_trained_and_nothing_else(what: str, small: Path, tones: Path, tmp_path: Path) -> None:
    lines = tones.read_text().splitlines()
    rows = [f"{line},{('train', 'train', 'valid', 'test')[n // 10]}" for n, line in enumerate(lines[1:])]
    tones.write_text("\n".join([lines[0] + ",split", *rows]) + "\n")
    wanted = replace(config(tones, small, encoder_lr=1e-2), unfreeze=what)
    probe(wanted, tmp_path / "run", tmp_path / "cache")
    folder = tmp_path / "run" / "head"
    before, after = load_model(small)[0].state_dict(), load_model(folder / "encoder")[0].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    tops = {".".join(name.split(".")[:2]) for name in changed}
    ends = {"audio.norm", "audio.output", "audio_projection.weight", "audio_projection.bias"}
    layers = {"audio.cross", "audio.layers", "audio.frame_layers"}
    if what == "last:0":
        assert tops == ends
    elif what == "last:1":
        assert tops == ends | {"audio.layers"}
    elif what == "all":
        assert tops >= ends | layers | {"audio.stem", "audio.latents"}
    else:
        assert {name.split(".")[-1] for name in changed} <= {"weight", "in_proj_weight"}
        assert tops >= layers | {"audio.output"}
    assert not any(name.startswith("text") or "logit_scale" in name for name in changed)
    assert {"CREMA-D", "crema_d"} <= set(training_sources(folder / "encoder") or ())
    head = load_head(folder)
    assert head.config.fingerprint == load_encoder(folder / "encoder").fingerprint
    said = run(clara_search, "classify", tones.parent / "1.wav", "--head", folder, "--json").stdout
    assert json.loads(said)["scores"].keys() == {"high", "low"}


def test_a_search_keeps_the_encoder_of_the_head_that_it_keeps(small: Path, tones: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `probe` is not installed")
    lines = tones.read_text().splitlines()
    rows = [f"{line},{('train', 'train', 'valid', 'test')[n // 10]}" for n, line in enumerate(lines[1:])]
    tones.write_text("\n".join([lines[0] + ",split", *rows]) + "\n")
    wanted = replace(config(tones, small, encoder_lr=3e-2), unfreeze="all", trials=3)
    wanted = replace(wanted, fit=replace(wanted.fit, epochs=2))
    report = probe(wanted, tmp_path / "run", tmp_path / "cache")
    folder = tmp_path / "run" / "head"
    head, encoder = load_head(folder), load_encoder(folder / "encoder")
    files = [tones.parent / f"{n}.wav" for n in range(30, 40)]
    vectors = encoder.encode_audio([load_audio(file, encoder.sample_rate) for file in files])
    named = head.probabilities(vectors)["pitch"].argmax(axis=1)
    counts = np.zeros((2, 2), dtype=int)
    for n, guess in zip(range(30, 40), named, strict=True):
        counts[(n + 1) % 2, guess] += 1  # "high" is the first of the classes
    assert report["labels"]["pitch"]["confusion"] == counts.tolist()
    probe(config(tones, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    assert not (folder / "encoder").exists()


def test_only_what_is_trained_asks_for_a_gradient_and_drops_out(small: Path) -> None:
    model = load_model(small)[0]
    trained = unfreeze(model, "last:1", text=True)
    wanted = {id(p) for module in trained for p in module.parameters()}
    assert {id(p) for p in model.parameters() if p.requires_grad} == wanted
    assert not model.audio.stem.convolutions[0].weight.requires_grad
    for what, message in (("last:9", "has 3"), ("lora:x", "say none, last:N"), ("", "say none")):
        with pytest.raises(ConfigError, match=message):
            unfreeze(model, what, text=False)


def test_what_cannot_be_unfrozen_is_refused_before_anything_is_embedded(
    small: Path, tones: Path, tmp_path: Path
) -> None:
    for fitted, message in (({"head": "knn"}, "not below knn"), ({"inputs": "late"}, "late")):
        with pytest.raises(ConfigError, match=message):
            probe(replace(config(tones, small, **fitted), unfreeze="all"), tmp_path / "run", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_head_over_another_encoder_is_refused(small: Path, tones: Path, tmp_path: Path) -> None:
    probe(config(tones, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    arguments = ("classify", tones.parent / "1.wav", "--head", tmp_path / "run" / "head")
    assert "gives other vectors" in run(clara_search, *arguments, "--model", "clara-small", code=1).output
    assert "has no task 'mood'; it has pitch" in run(clara_search, *arguments, "--task", "mood", code=1).output
    known = tmp_path / "run" / "head" / "head.json"
    known.write_text(known.read_text().replace(load_head(known.parent).config.fingerprint, ""))
    assert "the head takes vectors of" in run(clara_search, *arguments, "--model", "clara-small", code=1).output


def test_settings_are_spelled_right_or_refused(tones: Path, tmp_path: Path) -> None:
    arguments = ("probe", "--data", tones, "--label", "pitch", "--set")
    assert "did you mean 'epochs'" in run(trainer, *arguments, "fit.epoch=3", code=1).output
    assert "folds must be at least 2" in run(trainer, *arguments, "folds=1", code=1).output
    for value in (
        "fit.lr=nan",
        "fit.weight_decay=inf",
        "fit.hidden=[99999999]",
        "fit.batch_size=9999999999999999999999",
    ):
        assert "must lie between" in run(trainer, *arguments, value, code=1).output
    assert "seed must lie" in run(trainer, *arguments, "fit.seed=-1", code=1).output
    assert "hop_s must be" in run(trainer, *arguments, "hop_s=1e-9", code=1).output
    with pytest.raises(ClaraError, match="no model"):
        probe(config(tones, tmp_path / "none"), tmp_path / "run", tmp_path / "cache")
