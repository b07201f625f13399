"""The teachers for real, small and random: Whisper through CTranslate2, a sentence encoder through transformers."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from clara_search.audio.mel import MelConfig, log_mel
from clara_search.datasets.example import Example
from clara_search.errors import FormatError, UnknownModel
from tests.helpers import tone
from trainer.data.teachers import (
    SAMPLES_PER_FRAME,
    WhisperEncoder,
    compute_teacher_frames,
    compute_teacher_texts,
    num_frames,
)

ctranslate2 = pytest.importorskip("ctranslate2")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("whisper") / "ct2"
    source = folder.parent / "hf"
    sizes = dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 64)
    sizes |= {f"{tower}_{part}": 1 for tower in ("encoder", "decoder") for part in ("layers", "attention_heads")}
    config = transformers.WhisperConfig(vocab_size=51865, **sizes)
    transformers.WhisperForConditionalGeneration(config).save_pretrained(source)
    write_vocabulary(source)
    ctranslate2.converters.TransformersConverter(str(source)).convert(str(folder))
    return folder


def write_vocabulary(folder: Path) -> None:
    """A tokenizer of the size that a Whisper is converted with; its tokens mean nothing."""
    import tokenizers

    vocabulary = {f"t{index}": index for index in range(51865)} | {"<|endoftext|>": 50257}
    bpe = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="t0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>").save_pretrained(folder)


class Recordings:
    sample_rate = 16000

    def __init__(self, folder: Path, seconds: list[float]) -> None:
        self.folder = folder
        self._waveforms = [tone(200.0 + 100 * n, s, 16000) for n, s in enumerate(seconds)]

    def __len__(self) -> int:
        return len(self._waveforms)

    def samples(self, index: int) -> int:
        return len(self._waveforms[index])

    def waveform(self, index: int) -> np.ndarray:
        return self._waveforms[index]


def test_every_recording_has_its_frames_in_order_across_windows(whisper: Path, tmp_path: Path) -> None:
    recordings = Recordings(tmp_path, [0.5, 12.0, 20.0, 31.0, 0.01, 3.0])
    teacher = compute_teacher_frames(whisper, recordings)
    alone = WhisperEncoder(whisper)
    for index in range(len(recordings)):
        frames = num_frames(recordings.samples(index))
        standardised = teacher.of(index, 0, recordings.samples(index), frames)
        assert standardised.shape == (frames, teacher.dim)
        if index in (0, 2, 3):  # the first of their windows; the positions of others differ
            (expected,) = alone.encode([recordings.waveform(index)])
            standard = (expected.astype(np.float32) - teacher.mean) / teacher.scale
            assert (
                np.corrcoef(standardised.ravel(), standard.ravel())[0, 1] > 0.9
            )  # neighbours in a window have an influence


def test_a_window_is_encoded_as_by_transformers(whisper: Path) -> None:
    waveform = tone(300.0, 30.0, 16000)
    given = log_mel(waveform, MelConfig(16000, 400, 400, 160))[:3000].T + 0.4
    model = transformers.WhisperForConditionalGeneration.from_pretrained(whisper.parent / "hf").model.encoder.eval()
    with torch.inference_mode():
        states = model(given[None]).last_hidden_state[0].unflatten(0, (750, 2)).mean(dim=1)
    (encoded,) = WhisperEncoder(whisper).encode([waveform])
    assert np.corrcoef(encoded.ravel(), states.numpy().ravel())[0, 1] > 0.99


def test_teacher_frames_are_cached_and_can_be_interpolated(whisper: Path, tmp_path: Path) -> None:
    recordings = Recordings(tmp_path, [2.0, 1.0])
    first = compute_teacher_frames(whisper, recordings)
    (part,) = tmp_path.glob("teacher-frames-*/*.npy")
    before = part.stat().st_mtime_ns
    again = compute_teacher_frames(whisper, recordings)
    assert part.stat().st_mtime_ns == before
    whole = again.of(0, 0, 32000, 50)
    np.testing.assert_array_equal(first.of(0, 0, 32000, 50), whole)
    np.testing.assert_allclose(again.of(0, 10 * SAMPLES_PER_FRAME, 6400, 10), whole[10:20], atol=1e-5)
    stretched = again.of(0, 0, 32000, 99)
    np.testing.assert_allclose(stretched[::2], whole, atol=1e-3)


def test_a_folder_without_a_teacher_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"has no model\.bin"):
        compute_teacher_frames(tmp_path, Recordings(tmp_path, [1.0]))
    (tmp_path / "model.bin").write_bytes(b"x" * 100)
    with pytest.raises(FormatError, match="not a Whisper model that can be loaded"):
        compute_teacher_frames(tmp_path, Recordings(tmp_path, [1.0]))
    with pytest.raises(FormatError, match="not a sentence encoder"):
        compute_teacher_texts(tmp_path / "none", [Example("1", b"", "x")], tmp_path)


def test_equal_texts_have_equal_unit_vectors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, words = tmp_path / "bert", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "rain", "wind"]
    model.mkdir()
    (model / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(model / "vocab.txt")).save_pretrained(model)
    config = transformers.BertConfig(vocab_size=6, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    transformers.BertModel(config).save_pretrained(model)
    examples = [Example(str(n), b"", text) for n, text in enumerate(["rain", "wind", "rain wind", "rain"])]
    vectors = compute_teacher_texts(model, examples, tmp_path).of(examples)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    assert not np.allclose(vectors[0], vectors[1])
    state = safetensors.torch.load_file(model / "model.safetensors")
    del state["encoder.layer.0.output.dense.weight"]
    safetensors.torch.save_file(state, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        FormatError, match=r"incomplete sentence encoder, encoder\.layer\.0\.output\.dense\.weight miss"
    ):
        compute_teacher_texts(model, [*examples, Example("5", b"", "another text")], tmp_path)
