"""The bundled model as a user gets it."""

import subprocess
import sys
import zlib

import numpy as np
import pytest

from clara_search.errors import DeviceError, FormatError, UnknownModel
from clara_search.models import registry as catalog
from clara_search.models.base import Encoder
from clara_search.models.registry import DEFAULT_MODEL, load_encoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(DEFAULT_MODEL)


def clips(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(round(s * 16000))).astype(np.float32) for s in seconds]


def test_it_is_an_encoder(encoder: Encoder) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.name == DEFAULT_MODEL
    assert len(encoder.fingerprint) == 64
    assert encoder.sample_rate == 16000


@pytest.mark.slow
def test_a_clip_has_the_same_vector_alone_and_among_63_others(encoder: Encoder) -> None:
    many = clips(*np.random.default_rng(1).uniform(0.01, 12.0, 64))
    together = encoder.encode_audio(many)
    assert together.shape == (64, encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    for index in (0, 17, 63):
        np.testing.assert_allclose(encoder.encode_audio([many[index]])[0], together[index], atol=1e-5)


def test_a_text_has_the_same_vector_alone_and_among_others(encoder: Encoder) -> None:
    texts = ["a dog barks", "x", "una mujer habla enfadada", "a very long sentence indeed " * 12] * 30
    together = encoder.encode_text(texts)
    for index in (0, 1, 2, 3, 119):
        np.testing.assert_allclose(encoder.encode_text([texts[index]])[0], together[index], atol=1e-5)


def test_a_language_changes_the_vector_and_an_unknown_one_does_not(encoder: Encoder) -> None:
    plain, known, unknown = (encoder.encode_text(["dos"], language) for language in (None, "es", "tlh"))
    np.testing.assert_array_equal(plain, unknown)
    assert not np.allclose(plain, known)


@pytest.mark.slow
def test_opening_a_model_does_not_load_the_compiler_of_torch() -> None:
    """It takes seconds, and some ways to make an empty tensor do it."""
    program = "import sys, clara_search; clara_search.load_encoder(); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_unknown_models_are_named_with_those_there_are(tmp_path) -> None:
    with pytest.raises(UnknownModel, match=r"'clara-huge'.*clara-small"):
        load_encoder("clara-huge")
    with pytest.raises(FormatError, match=r"no readable config\.json"):
        load_encoder(tmp_path)


@pytest.mark.slow
def test_the_bundled_model_fits_its_budget_and_has_a_whole_card() -> None:
    assert catalog.bundled_models() == [DEFAULT_MODEL]
    described = catalog.describe_model(DEFAULT_MODEL)
    folder = catalog.WEIGHTS / DEFAULT_MODEL
    assert sum(len(zlib.compress(path.read_bytes())) for path in folder.iterdir()) <= 48 * 2**20  # as in the wheel
    assert described["licence"] == "apache-2.0"
    for heading in ("## Scores", "## Recordings", "## Limits", "chance"):
        assert heading in described["card"]


def test_precisions_agree_and_do_not_change_the_fingerprint(encoder: Encoder) -> None:
    many = clips(0.5, 3.0, 10.0)
    expected = encoder.encode_audio(many)
    for precision, min_cosine in (("bf16", 0.99), ("int8", 0.99)):
        other = load_encoder(DEFAULT_MODEL, "cpu", precision)
        assert other.fingerprint == encoder.fingerprint
        vectors = other.encode_audio(many)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert ((vectors * expected).sum(axis=1) > min_cosine).all()
    np.testing.assert_array_equal(load_encoder(DEFAULT_MODEL, "cpu", "fp32").encode_audio(many), expected)
    with pytest.raises(DeviceError, match="no precision 'fp8'"):
        load_encoder(DEFAULT_MODEL, precision="fp8")


def test_int8_vectors_do_not_depend_on_their_batch() -> None:
    encoder = load_encoder(DEFAULT_MODEL, "cpu", "int8")
    many = clips(0.5, 3.0, 3.0, 7.0)
    together = encoder.encode_audio(many)
    for clip, vector in zip(many, together, strict=True):
        np.testing.assert_allclose(encoder.encode_audio([clip])[0], vector, atol=1e-5)
