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

from clara_search.audio.mel import MelConfig
from clara_search.audio.resample import resample
from clara_search.models.clara.config import AudioTowerConfig, ClaraConfig, TextTowerConfig
from clara_search.models.clara.phone_head import PhoneHeadConfig
from clara_search.models.registry import load_encoder
from tests.helpers import write_tone
from trainer.config.augmentation import AugmentConfig
from trainer.config.captions import CaptionConfig
from trainer.config.evaluation import bundled_digits
from trainer.config.recipe import Recipe
from trainer.config.sections import DataConfig, InitConfig, OptimConfig
from trainer.data.corpus import load_corpus
from trainer.data.dataset import PairDataset
from trainer.data.sampler import LengthBucketSampler, sampling_weights
from trainer.data.splits import split_corpus
from trainer.data.text_split import text_split
from trainer.pretraining.run import pretrain
from trainer.pretraining.tokenizer import train_tokenizer

pytestmark = pytest.mark.slow

RATE = 16000
RECIPE = Recipe(
    "tones",
    data=DataConfig(batch_size=16, max_audio_s=1.0, held_out_speakers=("new",)),
    optim=OptimConfig(epochs=1, warmup_steps=2),
    model=ClaraConfig(
        "tones",
        dim=8,
        mel=MelConfig(RATE, n_fft=512, win_length=400, hop_length=160, n_mels=20),
        audio=AudioTowerConfig(
            width=8, positions="sinusoidal", latents=2, latent_dim=8, cross_heads=1, latent_layers=0, pooling="latents"
        ),
        text=TextTowerConfig(300, "sinusoidal", width=8, layers=1, heads=1, feed_forward=8, pre_norm=True, proj_dim=8),
    ),
)

EVERYTHING = AugmentConfig(
    pitch_probability=1.0,
    tempo_probability=1.0,
    speed_probability=1.0,
    blend_probability=0.5,
    reverb_probability=1.0,
    clip_probability=1.0,
    noise_probability=0.5,
    mix_probability=1.0,
    band_limit_probability=0.5,
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


def test_no_text_or_speaker_is_in_two_splits(shard: Path, tmp_path: Path) -> None:
    corpus = load_corpus([str(shard)], RATE, tmp_path)
    splits = split_corpus(corpus, RECIPE.data, bundled_digits())
    assert len(corpus) == 199  # the broken one is left out
    by_split = {name: [corpus.examples[index] for index in indices] for name, indices in vars(splits).items()}
    assert all(text_split(x.text) == "train" and x.speaker != "new" for x in by_split["train"])
    assert all(text_split(x.text) == "valid" and x.speaker != "new" for x in by_split["valid"])
    assert all(text_split(x.text) == "test" and x.speaker != "new" for x in by_split["test"])
    assert {x.speaker for x in by_split["new_speaker"]} == {"new"}
    assert [x.key for x in by_split["digits"]] == ["008"]
    assert "009" in {x.key for x in by_split["train"]}
    assert sum(map(len, by_split.values())) == 199
    without_suite = split_corpus(corpus, RECIPE.data)
    assert without_suite.digits == []
    by_text = {"train": without_suite.train, "valid": without_suite.valid, "test": without_suite.test}
    by_key = {corpus.examples[index].key: name for name, indices in by_text.items() for index in indices}
    assert by_key["008"] == by_key["009"] == text_split("Two")


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
    sampler = LengthBucketSampler(corpus, list(range(150)), batch_size=16, seed=0, shuffle=True)
    batches = [draws for _, draws in sampler]
    assert len(batches) == len(sampler) == 9
    assert len({index for batch in batches for index, _ in batch}) == 9 * 16
    assert batches == [draws for _, draws in sampler]
    sampler.set_epoch(1)
    assert batches != [draws for _, draws in sampler]
    in_order = LengthBucketSampler(corpus, list(range(150)), batch_size=16, seed=0, shuffle=False)
    assert sorted(index for _, batch in in_order for index, _ in batch) == list(range(150))


def test_processes_share_the_batches_and_an_epoch_can_skip_some(shard: Path, tmp_path: Path) -> None:
    corpus = load_corpus([str(shard)], RATE, tmp_path)

    def sampler(rank: int = 0, world: int = 1) -> LengthBucketSampler:
        return LengthBucketSampler(corpus, list(range(150)), 16, seed=0, shuffle=True, rank=rank, world=world)

    whole, first, second = ([draws for _, draws in x] for x in (sampler(), sampler(0, 2), sampler(1, 2)))
    assert [sorted(a + b) for a, b in zip(first, second, strict=True)] == [sorted(draws) for draws in whole]
    later = sampler()
    later.start_at(0, 4)
    assert [draws for _, draws in later] == whole[4:]
    later.set_epoch(1)
    assert len(list(later)) == 9


def test_weighted_recordings_are_sampled_as_often_as_asked_with_a_draw_each(shard: Path, tmp_path: Path) -> None:
    corpus = load_corpus([str(shard)], RATE, tmp_path)
    every = list(range(len(corpus)))
    weights = sampling_weights(corpus, every, {"sound": 2.5, "music": 0.0, "espeak_digits": 2.0})
    sampler = LengthBucketSampler(corpus, every, 16, 0, True, weights)
    counts = Counter(index for _, batch in sampler for index, _ in batch)
    sounds = [index for index in every if corpus.examples[index].kind == "sound"]
    assert not any(counts[index] for index in every if corpus.examples[index].kind == "music")
    assert {counts[index] for index in sounds} <= {1, 2, 3}
    assert 2.4 * len(sounds) - 16 < sum(counts[index] for index in sounds) <= 2.5 * len(sounds) + 1
    draws = [draw for _, batch in sampler for index, draw in batch if index == max(sounds, key=counts.get)]
    assert len(set(draws)) == len(draws) == 3


def test_a_batch_can_be_made_again_and_differs_by_epoch(shard: Path, tmp_path: Path) -> None:
    corpus = load_corpus([str(shard)], RATE, tmp_path)
    tokenizer = train_tokenizer(["tone number of hertz 0123456789"], 300, ["en"])
    recipe = replace(RECIPE, augment=EVERYTHING, captions=CaptionConfig(translations="sounds.csv"))
    pairs = PairDataset(corpus, list(range(50)), recipe, tokenizer, training=True)
    first, again, later = pairs[0, [(3, 0), (5, 1)]], pairs[0, [(3, 0), (5, 1)]], pairs[1, [(3, 0), (5, 1)]]
    assert all(tensor.equal(other) for tensor, other in zip(first[:-1], again[:-1], strict=True))
    assert not first.log_mels.equal(later.log_mels)
    assert first.log_mels.shape[1] == int(first.audio_mask.sum(dim=1).max())


def test_a_corpus_that_is_not_decoded_gives_the_same_waveforms(shard: Path, tmp_path: Path) -> None:
    decoded, stored = (
        load_corpus([str(shard)], RATE, tmp_path, cache_decoded=cache_decoded) for cache_decoded in (True, False)
    )
    assert stored.examples == decoded.examples
    assert not list(stored.folder.glob("*.i16"))
    for index in (0, 3, 198):
        np.testing.assert_allclose(stored.waveform(index), decoded.waveform(index), atol=1e-4)
    assert "broken" not in stored.examples[7].key
    assert (stored.folder / "left-out.txt").read_text().startswith("007: ")


def test_a_shard_at_a_url_is_read_without_decoding_it_first(shard: Path, tmp_path: Path) -> None:
    there, here = (
        load_corpus([f"file://{shard}"], RATE, tmp_path, cache_decoded=False),
        load_corpus([str(shard)], RATE, tmp_path),
    )
    assert there.examples[5].stored is not None
    assert there.examples[5].stored.path == f"file://{shard}"
    np.testing.assert_allclose(there.waveform(5), here.waveform(5), atol=1e-4)


def test_recordings_held_out_by_source_or_content_are_not_trained_on(tmp_path: Path) -> None:
    rows = [
        ("a.wav", "one", "train"),
        ("b.wav", "two", "test"),
        ("copy.wav", "three", "train"),
        ("c.wav", "x", "valid"),
    ]
    (tmp_path / "m.csv").write_text("path,text,split\n" + "".join(f"{','.join(row)}\n" for row in rows))
    for number, (name, _, _) in enumerate(rows):
        hz = 440 if name in ("b.wav", "copy.wav") else 200 * (number + 1)
        write_tone(tmp_path / name, hz)
    corpus = load_corpus([str(tmp_path / "m.csv")], RATE, tmp_path)
    splits = split_corpus(corpus, RECIPE.data)
    assert [[corpus.examples[i].key for i in indices] for indices in (splits.train, splits.valid, splits.test)] == [
        ["a.wav"],
        ["c.wav"],
        ["b.wav"],
    ]


def test_a_run_writes_a_folder_that_loads_and_resumes_where_it_stopped(shard: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = replace(RECIPE, data=replace(RECIPE.data, sources=(str(shard),)))
    folder = pretrain(recipe, run)
    assert len((run / "log.csv").read_text().splitlines()) == 1 + 1
    two = replace(recipe, optim=replace(RECIPE.optim, epochs=2))
    pretrain(two, run)
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
    auxiliary = {"phone_ctc": 1.0, "text_phone": 0.5} if find_spec("espeakng_loader") else {}
    init = InitConfig(str(folder), new=("phone_head",) if auxiliary else ())
    model = replace(recipe.model, phone_head=PhoneHeadConfig() if auxiliary else None)
    further = pretrain(replace(recipe, auxiliary=auxiliary, init=init, model=model), tmp_path / "further")
    assert ("phone_ctc_loss" in (tmp_path / "further" / "log.csv").read_text()) == bool(auxiliary)
    assert (further / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    encoder = load_encoder(further)
    vectors = encoder.encode_audio([np.ones(5000, np.float32) * 0.1, np.ones(9000, np.float32) * 0.1])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
