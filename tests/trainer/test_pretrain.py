"""Training for real, on a small scale: tones that are called by their pitch."""

import io
import json
import tarfile
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clara_search.audio import resample
from clara_search.datasets.split import text_split
from clara_search.encoder import load_encoder
from clara_search.features import MelConfig
from clara_search.models.clara import AudioTowerConfig, ClaraConfig, TextTowerConfig
from clara_search.tokenizer import Tokenizer
from trainer.data import LengthBuckets, Pairs, load_corpus, repeated, split
from trainer.pretrain import pretrain
from trainer.recipe import DataConfig, OptimiserConfig, PhonesConfig, Recipe, TokenizerConfig

RATE = 16000
RECIPE = Recipe(
    "tones",
    data=DataConfig(batch_size=16, max_audio_s=1.0, held_out_speakers=("new",)),
    tokenizer=TokenizerConfig(vocab_size=300),
    optimiser=OptimiserConfig(epochs=1, warmup_steps=2),
    model=ClaraConfig(
        "tones",
        dim=8,
        mel=MelConfig(RATE, n_fft=512, window=400, hop=160, n_mels=20),
        audio=AudioTowerConfig(
            width=8, positions="sinusoidal", latents=2, latent_dim=8, cross_heads=1, latent_layers=0, pooling="latents"
        ),
        text=TextTowerConfig(300, "sinusoidal", width=8, layers=1, heads=1, feed_forward=8, pre_norm=True, out=8),
    ),
)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 tones with a text each, of three kinds, two speakers and one that is held out; one file is broken."""
    path = tmp_path_factory.mktemp("data") / "tones.tar"
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as archive:
        for index in range(200):
            hz, seconds = int(rng.integers(100, 4000)), rng.uniform(0.05, 0.4)
            tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)
            audio = io.BytesIO()
            soundfile.write(audio, tone, RATE, format="FLAC")
            metadata = {
                "text": f"tone number {index} of {hz} hertz",
                "kind": ("speech", "sound", "music")[index % 3],
                "speaker": "new" if index % 10 == 0 else "old",
                "language": "en",
                "text_language": "en",
                "source": "tones",
                "licence": "CC0-1.0",
            }
            if index == 7:
                audio = io.BytesIO(b"broken")
            if index in (8, 9):  # a recorded and a synthetic digit
                metadata |= {"text": "Two", "label": "digit:2", "kind": "speech"}
                metadata["source"] = "espeak_digits" if index == 9 else "tones"
            for suffix, content in ((".flac", audio.getvalue()), (".json", json.dumps(metadata).encode())):
                info = tarfile.TarInfo(f"{index:03d}{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def test_no_text_or_speaker_stands_on_two_sides(shard: Path, tmp_path: Path) -> None:
    corpus = load_corpus([str(shard)], RATE, tmp_path)
    sides = split(corpus, RECIPE.data)
    assert len(corpus) == 199  # the broken one is left out
    by_side = {name: [corpus.examples[index] for index in indices] for name, indices in vars(sides).items()}
    assert all(text_split(x.text) == "train" and x.speaker != "new" for x in by_side["train"])
    assert all(text_split(x.text) == "valid" and x.speaker != "new" for x in by_side["valid"])
    assert all(text_split(x.text) == "test" and x.speaker != "new" for x in by_side["test"])
    assert {x.speaker for x in by_side["new_speaker"]} == {"new"}
    assert [x.key for x in by_side["digits"]] == ["008"]
    assert "009" in {x.key for x in by_side["train"]}
    assert sum(map(len, by_side.values())) == 199


def test_decoding_happens_once_and_changes_nothing(shard: Path, tmp_path: Path) -> None:
    first, again = (load_corpus([str(shard)], 8000, tmp_path) for _ in range(2))
    with tarfile.open(shard) as archive:
        member = archive.extractfile("003.flac")
        assert member is not None
        original, _ = soundfile.read(io.BytesIO(member.read()), dtype="float32")
    assert again.examples[3].key == "003"
    np.testing.assert_array_equal(first.waveform(3), again.waveform(3))
    np.testing.assert_allclose(again.waveform(3), resample(original, RATE, 8000), atol=1e-4)


def test_an_epoch_has_every_recording_once_but_a_remainder(shard: Path, tmp_path: Path) -> None:
    corpus = load_corpus([str(shard)], RATE, tmp_path)
    sampler = LengthBuckets(corpus, list(range(150)), batch_size=16, seed=0, shuffle=True)
    batches = [indices for _, indices in sampler]
    assert len(batches) == len(sampler) == 9
    assert len({index for batch in batches for index in batch}) == 9 * 16
    assert batches == [indices for _, indices in sampler]
    sampler.set_epoch(1)
    assert batches != [indices for _, indices in sampler]
    in_order = LengthBuckets(corpus, list(range(150)), batch_size=16, seed=0, shuffle=False)
    assert sorted(index for _, batch in in_order for index in batch) == list(range(150))


def test_what_is_repeated_comes_as_often_as_asked(shard: Path, tmp_path: Path) -> None:
    corpus = load_corpus([str(shard)], RATE, tmp_path)
    config = replace(RECIPE.data, sound_repeats=3, digits_repeats=2)
    counts = Counter(repeated(corpus, range(len(corpus)), config))
    for index, example in enumerate(corpus.examples):
        assert counts[index] == (2 if example.key == "009" else 1 if example.kind == "speech" else 3)


def test_a_batch_can_be_made_again_and_differs_by_epoch(shard: Path, tmp_path: Path) -> None:
    corpus = load_corpus([str(shard)], RATE, tmp_path)
    tokenizer = Tokenizer.train(["tone number of hertz 0123456789"], 300, ["en"])
    pairs = Pairs(corpus, list(range(50)), RECIPE, tokenizer, training=True)
    first, again, later = pairs[0, [3, 5]], pairs[0, [3, 5]], pairs[1, [3, 5]]
    assert first.log_mels.equal(again.log_mels)
    assert not first.log_mels.equal(later.log_mels)
    assert first.log_mels.shape[1] == int(first.audio_mask.sum(dim=1).max())


def test_a_run_gives_a_folder_that_loads_and_goes_on_where_it_stopped(shard: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = pretrain(RECIPE, [str(shard)], run)
    assert len((run / "log.csv").read_text().splitlines()) == 1 + 1
    two = replace(RECIPE, optimiser=replace(RECIPE.optimiser, epochs=2))
    pretrain(two, [str(shard)], run)
    header, *rows = (run / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["0", "1"]
    assert "text_to_audio_recall_at_10" in header
    assert "train_loss" in header
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    card = (folder / "README.md").read_text()
    assert "| tones |" in card
    assert "CC0-1.0" in card
    scores = json.loads((run / "scores.json").read_text())
    assert 0 <= scores["retrieval"]["speech in all"]["text_to_audio"]["recall"]["10"] <= 1
    phones = PhonesConfig(weight=1.0, per_frame=2) if find_spec("espeakng_loader") else PhonesConfig()
    further = pretrain(replace(RECIPE, phones=phones), [str(shard)], tmp_path / "further", init=folder)
    assert ("phone_loss" in (tmp_path / "further" / "log.csv").read_text()) == bool(phones.weight)
    assert (further / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    encoder = load_encoder(further)
    vectors = encoder.encode_audio([np.ones(5000, np.float32) * 0.1, np.ones(9000, np.float32) * 0.1])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
