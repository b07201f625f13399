"""Properties of every encoder: a vector depends on its clip or text alone, and odd input has a defined outcome."""

from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import torch
import torch._dynamo.utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clara_search.audio.decode import load_audio
from clara_search.errors import AudioError
from clara_search.models.base import Encoder
from clara_search.models.clara.convert import convert
from clara_search.models.registry import DEFAULT_MODEL, load_encoder
from tests.clara_search.models.clara.test_convert import whole_checkpoint
from tests.helpers import tone, write_tone

WORDS = ["rain", "犬", "una", "mujer", "<|en|>", "🐶", "3.14", "\t", "barks"]


@pytest.fixture(scope="module", params=["bundled", "released", "clap", "clap-fused"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, vocabulary: Path) -> Encoder:
    folder = tmp_path_factory.mktemp("model") / request.param
    if request.param == "bundled":
        return load_encoder(DEFAULT_MODEL)
    if request.param == "released":
        convert(whole_checkpoint(folder.with_suffix(".ckpt")), folder, vocabulary, sample_rate=16000)
        return load_encoder(folder)
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed (extra: clap)")
    from tests.clara_search.models.test_clap import write_clap

    return load_encoder(write_clap(folder, fusion=request.param == "clap-fused"))


many = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@many
@given(lengths=st.lists(st.integers(1, 60_000), min_size=2, max_size=8), seed=st.integers(0, 99))
def test_a_clip_has_the_same_vector_alone_and_in_any_company(encoder: Encoder, lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    clips = [(10 ** rng.uniform(-4, 0) * rng.standard_normal(n)).astype(np.float32) for n in lengths]
    together = encoder.encode_audio(clips)
    assert together.shape == (len(clips), encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for clip, vector in zip(clips, together, strict=True):
        np.testing.assert_allclose(encoder.encode_audio([clip])[0], vector, atol=1e-5)


@pytest.mark.slow
@many
@given(texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join), min_size=2, max_size=8))
def test_a_text_has_the_same_vector_alone_and_in_any_company(encoder: Encoder, texts: list[str]) -> None:
    together = encoder.encode_text(texts, "en")
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(encoder.encode_text([text], "en")[0], vector, atol=1e-5)


@pytest.mark.parametrize(
    "clip", [np.zeros(8000, np.float32), np.ones(1, np.float32), np.zeros(1, np.float32), np.full(3, 1e-30)]
)
def test_silence_and_a_single_sample_have_a_vector(encoder: Encoder, clip: np.ndarray) -> None:
    np.testing.assert_allclose(np.linalg.norm(encoder.encode_audio([clip])[0]), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("clip", "message"), [(np.array([0.1, np.nan]), "not finite"), (np.ones((2, 8)), "mono"), (np.ones(0), "empty")]
)
def test_an_invalid_clip_is_an_error(encoder: Encoder, clip: np.ndarray, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        encoder.encode_audio([clip])


@pytest.mark.parametrize("text", ["", " ", "rain " * 10_000])
def test_an_empty_and_an_endless_text_have_a_vector(encoder: Encoder, text: str) -> None:
    np.testing.assert_allclose(np.linalg.norm(encoder.encode_text([text])[0]), 1, atol=1e-5)


@pytest.mark.parametrize(("channels", "rate"), [(8, 16000), (1, 8000), (2, 44100)])
def test_a_file_of_any_rate_and_channels_comes_out_as_the_encoder_wants_it(
    encoder: Encoder, tmp_path: Path, channels: int, rate: int
) -> None:
    write_tone(tmp_path / "tone.wav", 440, sample_rate=rate, channels=channels)
    waveform = load_audio(tmp_path / "tone.wav", encoder.sample_rate)
    assert waveform.ndim == 1
    assert len(waveform) == pytest.approx(encoder.sample_rate, abs=2)
    np.testing.assert_allclose(np.linalg.norm(encoder.encode_audio([waveform])[0]), 1, atol=1e-5)


def test_empty_inputs_give_empty_embeddings(encoder: Encoder) -> None:
    assert encoder.encode_audio([]).shape == encoder.encode_text([]).shape == (0, encoder.dim)


def test_the_same_clip_in_the_same_process_has_the_same_vector(encoder: Encoder) -> None:
    clip = tone(440)
    np.testing.assert_array_equal(encoder.encode_audio([clip]), encoder.encode_audio([clip]))


@pytest.mark.slow
@pytest.mark.skipif(which("g++") is None, reason="torch compiles for a CPU with a C++ compiler")
def test_a_compiled_model_gives_the_same_vectors(tmp_path: Path, vocabulary: Path) -> None:
    convert(whole_checkpoint(tmp_path / "small.ckpt"), tmp_path / "small", vocabulary, sample_rate=16000)
    plain, compiled = load_encoder(tmp_path / "small"), load_encoder(tmp_path / "small", compile_model=True)
    clips = [tone(440, 0.5), tone(220, 0.8), tone(880, 1.0)]
    torch._dynamo.utils.counters.clear()
    np.testing.assert_allclose(compiled.encode_audio(clips), plain.encode_audio(clips), atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
