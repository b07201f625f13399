"""The sound block of a vector: shares, tokens, files and both encoders."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from tokenizers import models, pre_tokenizers, processors

from clara_search.audio.mel import MelConfig
from clara_search.errors import FormatError
from clara_search.models.clara.checkpoint import describe, fingerprint, load_model, save_model
from clara_search.models.clara.sentence_encoder import SentenceEncoder, pack, unpack
from clara_search.models.clara.sound_head import (
    FILES,
    SoundConfig,
    SoundHead,
    SoundTokenizer,
    embed_meanings,
    load_sound_head,
    save_sound_head,
)
from clara_search.models.clara.towers import Clara
from clara_search.models.clara.yamnet import log_mel_patches, pad_same
from clara_search.models.registry import load_encoder
from tests.clara_search.models.clara.test_towers import MASKED
from trainer.pretraining.tokenizer import train_tokenizer

WORDS = ("<unk>", "<s>", "</s>", "▁dog", "▁rain", "▁hello", "▁", "a", "b")
CONFIG = SoundConfig(vocab_size=len(WORDS), anchors=5, dim=14, hidden=8)


def unigram() -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.Unigram([(word, -float(at)) for at, word in enumerate(WORDS)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def random_head(seed: int = 0) -> SoundHead:
    """A head of random weights whose norms are positive."""
    torch.manual_seed(seed)
    head = SoundHead(CONFIG).eval()
    with torch.no_grad():
        for name, tensor in head.state_dict().items():
            if tensor.dtype == torch.uint8:
                tensor.random_(0, 256)
            elif name.endswith(("_std", "scale")):
                tensor.fill_(1.0 if name.endswith("_std") else 0.1)
            elif not name.endswith(("norm.weight", "norm.bias")):
                tensor.normal_(std=tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1)
    return head


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny CLARA model with a sound head."""
    config = replace(MASKED, mel=MelConfig(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=16))
    torch.manual_seed(1)
    tokenizer = train_tokenizer(["a dog", "rain", "hello"], config.text.vocab_size, ["en"])
    save_model(tmp_path / "model", Clara(config), tokenizer, "")
    save_sound_head(tmp_path / "model", random_head(), unigram())
    return tmp_path / "model"


def clips(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(round(s * 16000)) * 0.1).astype(np.float32) for s in seconds]


def test_vectors_have_both_blocks_and_unit_norm(folder: Path) -> None:
    encoder = load_encoder(folder, "cpu")
    assert encoder.dim == MASKED.dim + CONFIG.dim + 2 == describe(folder)["dim"]
    for vectors in (encoder.encode_audio(clips(0.1, 1.0, 3.0)), encoder.encode_text(["dog", "", "hello rain dog"])):
        assert vectors.shape == (3, encoder.dim)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_vector_does_not_depend_on_its_batch(folder: Path) -> None:
    encoder = load_encoder(folder, "cpu")
    waveforms, texts = clips(0.3, 7.0, 1.0, 2.5), ["dog", "a dog and the rain say hello", "hello", "rain b"]
    for together, alone in (
        (encoder.encode_audio(waveforms), [encoder.encode_audio([waveform])[0] for waveform in waveforms]),
        (encoder.encode_text(texts), [encoder.encode_text([text])[0] for text in texts]),
    ):
        np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)


def test_case_and_punctuation_of_a_text_change_nothing_of_its_sound(folder: Path) -> None:
    ids, words = SoundTokenizer(unigram()).encode(["Dog!", "dog", "  DOG, rain. ", "dog rain"])
    assert ids == [[1, 3, 2], [1, 3, 2], [1, 3, 4, 2], [1, 3, 4, 2]]
    assert words == [1, 1, 2, 2]
    blocks = load_encoder(folder, "cpu").encode_text(["Dog!", "dog"])[:, MASKED.dim :]
    np.testing.assert_allclose(blocks[0], blocks[1], atol=1e-6)


def test_speech_is_compared_by_speech_alone_and_nothing_with_nothing(folder: Path) -> None:
    head = random_head()
    spoken = torch.nn.functional.normalize(torch.randn(2, 6), dim=-1)
    with torch.no_grad():
        head.is_sound.weight.zero_(), head.is_sound.bias.fill_(-30.0)  # all is speech
        head.kinds.weight.zero_(), head.kinds.bias.copy_(torch.tensor([0.0, 0.0, -30.0]))
        speech = head.join_audio(spoken, clips(1.0, 1.0))
        head.kinds.bias.copy_(torch.tensor([0.0, 0.0, 30.0]))
        nothing = head.join_audio(spoken, clips(1.0, 1.0))
        head.names_sound.weight.zero_(), head.names_sound.bias.fill_(-30.0)  # of no text is it the name
        ids, words = SoundTokenizer(unigram()).encode(["dog", "hello"])
        texts = head.join_text(spoken, embed_meanings(head, ids), torch.tensor(words))
    torch.testing.assert_close(texts @ speech.T, CONFIG.speech_share**0.5 * spoken @ spoken.T, atol=1e-4, rtol=0)
    torch.testing.assert_close(texts @ nothing.T, torch.zeros(2, 2), atol=1e-4, rtol=0)


def test_the_fingerprint_is_also_that_of_the_head(folder: Path) -> None:
    before = fingerprint(folder)
    save_sound_head(folder, random_head(2), unigram())
    assert fingerprint(folder) != before
    for name in FILES:
        (folder / name).unlink()
    assert fingerprint(folder) != before
    assert load_sound_head(folder) is None
    assert describe(folder)["dim"] == MASKED.dim


@pytest.mark.parametrize("name", FILES)
def test_a_part_of_a_head_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FormatError, match=f"no {name}"):
        load_encoder(folder, "cpu")


def test_broken_weights_of_a_head_are_named(folder: Path) -> None:
    path = folder / "sounds.safetensors"
    weights = load_file(path)
    for broken, message in (
        ({**weights, "more": torch.zeros(1)}, "more is unknown"),
        ({name: tensor for name, tensor in weights.items() if name != "anchors"}, "anchors is missing"),
        (
            {**weights, "sentences.table": weights["sentences.table"].half()},
            "sentences.table is torch.float16.* expected dense bytes",
        ),
        ({**weights, "gate": weights["sentences.table"].clone()}, "gate is unknown"),
    ):
        save_file(broken, path)
        with pytest.raises(FormatError, match=message):
            load_encoder(folder, "cpu")


def test_another_sample_rate_is_refused(folder: Path) -> None:
    model, tokenizer = load_model(folder)
    other = Clara(replace(model.config, mel=replace(model.config.mel, sample_rate=22050)))
    save_model(folder, other, tokenizer, "")
    assert load_sound_head(folder) is None  # a model that is saved over another takes its head away
    save_sound_head(folder, random_head(), unigram())
    with pytest.raises(FormatError, match="16000 Hz"):
        load_encoder(folder, "cpu")


@pytest.mark.parametrize(
    ("samples", "patches"), [(1, 1), (15600, 1), (15600 + 7680, 2), (96000, 11 // 2 + 1), (160000, 10)]
)
def test_patches_overlap_by_half_unless_there_are_many(samples: int, patches: int) -> None:
    assert log_mel_patches(torch.zeros(samples)).shape == (patches, 96, 64)


def test_the_log_mel_is_that_of_yamnet() -> None:
    # A tone of 1 kHz and amplitude 1 has a magnitude of half the sum of the window, shared by neighbouring bins; its
    # loudest band is the one whose centre, on the HTK scale from 125 to 7500 Hz, is the nearest.
    tone = torch.sin(2 * torch.pi * 1000.0 * torch.arange(16000) / 16000.0)
    log_mel = log_mel_patches(tone)[0, 40]
    edges = np.linspace(1127 * np.log1p(125 / 700), 1127 * np.log1p(7500 / 700), 66)
    assert int(log_mel.argmax()) == int(np.abs(edges[1:-1] - 1127 * np.log1p(1000 / 700)).argmin())
    assert 4.0 < float(log_mel.max()) < np.log(400.0)
    torch.testing.assert_close(log_mel_patches(torch.zeros(16000)).unique(), torch.tensor([0.001]).log())


@pytest.mark.parametrize(("size", "stride", "out"), [(96, 2, 48), (48, 1, 48), (3, 2, 2), (2, 2, 1)])
def test_convolutions_pad_as_tensorflow_does(size: int, stride: int, out: int) -> None:
    # "same": ceil(size / stride) results, and an odd zero goes to the end.
    row = torch.arange(1.0, size + 1.0)
    padded = pad_same(row.expand(1, 1, size, size), stride)[0, 0, size // 2]
    zeros = max((out - 1) * stride + 3 - size, 0)
    assert padded.tolist() == [0.0] * (zeros // 2) + row.tolist() + [0.0] * (zeros - zeros // 2)


def test_four_bits_keep_a_row_to_a_thirtieth_of_its_range() -> None:
    table = torch.randn(20, 512)
    packed, scale, offset = pack(table)
    assert packed.shape == (20, 256)
    restored = unpack(packed) * scale + offset
    spread = table.amax(dim=1, keepdim=True) - table.amin(dim=1, keepdim=True)
    assert bool(((restored - table).abs() <= spread / 30.0 + 2e-3 * spread).all())


def test_padding_does_not_change_a_meaning() -> None:
    torch.manual_seed(0)
    encoder = SentenceEncoder(50).eval()
    packed, scale, offset = pack(torch.randn(50, 512))
    encoder.load_state_dict({**encoder.state_dict(), "table": packed, "scale": scale, "offset": offset})
    ids = torch.tensor([[1, 7, 2]])
    padded, mask = torch.tensor([[1, 7, 2, 9, 9]]), torch.tensor([[True, True, True, False, False]])
    with torch.no_grad():
        torch.testing.assert_close(
            encoder(padded, mask), encoder(ids, torch.ones(1, 3, dtype=torch.bool)), atol=1e-5, rtol=0
        )
