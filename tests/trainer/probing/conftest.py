"""Films and tones with labels, and a small model, for the tests of probes."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from clara_search.audio.waveform import Waveform
from clara_search.models.clara.checkpoint import save_model
from clara_search.models.clara.towers import Clara
from tests.clara_search.datasets.published import MELD_HEADER
from tests.helpers import write_tone
from tests.trainer.pretraining.test_run import RECIPE
from trainer.phones.espeak import speak
from trainer.pretraining.tokenizer import train_tokenizer
from trainer.probing.experiment import ProbeConfig
from trainer.probing.sgd import FitConfig

SENTENCES = {"joy": "what a wonderful day", "sadness": "it is raining and I am alone", "anger": "get out of my house"}
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
    """Run a command and check its exit code."""
    result = CliRunner().invoke(group, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def meld(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MELD in small: three utterances, each an emotion, by each voice; two films are corrupt and one is silent."""
    root = tmp_path_factory.mktemp("MELD.Raw")
    folders = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
    rows: dict[str, list[str]] = {split: [] for split in folders}
    for speaker, voice in enumerate(VOICES):
        split = ("train", "train", "train", "dev", "test", "test")[speaker]
        for number, (emotion, words) in enumerate(SENTENCES.items()):
            for speed in (150, 190):
                waveform, rate = speak(words, voice, speed)
                dialogue = f"{speaker},{number * 1000 + speed}"
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


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a few hundred weights, in a folder, whose card lists a source."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    config = replace(RECIPE.model, audio=replace(RECIPE.model.audio, latent_layers=1, frame_layers=1, frame_heads=1))
    card = "---\nlicense: x\ntraining_sources:\n- CREMA-D\n- other\n---\n# small\n"
    save_model(folder, Clara(config), train_tokenizer(["high tone", "low tone"], 300, ["en"]), card, torch.float32)
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


def probe_config(data: Path, model: Path, *labels: str, **fitted: object) -> ProbeConfig:
    """Return a probe of a few epochs, with `fitted` as further settings of the fit."""
    fit = FitConfig(lr=0.02, epochs=10, batch_size=8, **fitted)  # type: ignore[arg-type]
    return ProbeConfig(str(data), labels or ("pitch",), str(model), fit=fit)
