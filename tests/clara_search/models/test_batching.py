"""Helpers of encoders: chunks, batches, validation, precision."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clara_search.errors import AudioError, DeviceError, FormatError, QueryError
from clara_search.models.batching import (
    choose_device,
    choose_precision,
    chunk_spans,
    embed_chunks,
    encode_in_parts,
    length_batches,
    padding_mask,
    unit_norm,
    validate_texts,
    validate_waveforms,
)
from clara_search.models.registry import load_encoder

CPU = torch.device("cpu")


@given(st.integers(1, 10_000), st.integers(1, 500))
def test_spans_cover_everything_in_equal_parts_and_no_more_than_needed(samples: int, longest: int) -> None:
    spans = chunk_spans(samples, longest)
    assert len(spans) == max(1, -(-samples // longest))
    assert spans[0][0] == 0
    assert spans[-1][1] == samples
    assert all(before[1] >= after[0] for before, after in pairwise(spans))
    assert {end - start for start, end in spans} == {min(samples, longest)}


@given(st.lists(st.integers(1, 300), max_size=50), st.integers(1, 1000))
def test_batches_hold_every_index_once_within_their_budget(lengths: list[int], budget: int) -> None:
    batches = list(length_batches(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


def test_a_padding_mask_is_false_for_padding() -> None:
    assert padding_mask([1, 3]).tolist() == [[True, False, False], [True, True, True]]


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(0, np.float32), "waveform 2 of 2 is empty"),
        (np.zeros((8, 100), np.float32), r"waveform 2 of 2 has shape \(8, 100\): expected mono"),
        (np.array([0.0, np.nan]), "waveform 2 of 2 has samples that are not finite"),
        (np.array([0.0, -np.inf]), "waveform 2 of 2 has samples that are not finite"),
        (np.zeros(10, np.int16), "waveform 2 of 2 is int16"),
        (np.full(10, 1e30, np.float32), r"waveform 2 of 2 has samples of up to 1e\+30"),
        (np.full(10, -1e300), r"waveform 2 of 2 has samples of up to 1e\+300"),
    ],
)
def test_an_invalid_waveform_is_named_by_its_index(waveform: np.ndarray, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        validate_waveforms([np.zeros(5, np.float32), waveform])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("dog", "got one text: put it into a list"),
        (["a", None], "text 2 of 2 is not a string: None"),
        ([("a", "b")], "text 1 of 1 is not a string"),
        (["a\udcff"], "text 1 of 1 is not Unicode"),
    ],
)
def test_an_invalid_text_is_named_by_its_index(texts: list[str], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        validate_texts(texts)


def test_float64_waveforms_become_float32() -> None:
    assert validate_waveforms([np.ones(3)])[0].dtype == np.float32


def test_the_vector_of_a_long_clip_is_the_mean_of_its_parts() -> None:
    """Each part is embedded as a unit vector that points where its first sample says."""

    def embed(parts: list[np.ndarray]) -> np.ndarray:
        assert all(len(part) <= 4 for part in parts)
        return np.array([[np.cos(part[0]), np.sin(part[0])] for part in parts], dtype=np.float32)

    short, long = np.full(3, 0.5), np.repeat([0.0, 1.0], 4)
    vectors = embed_chunks([short, long, short], 4, 2, embed)
    np.testing.assert_allclose(vectors[0], [np.cos(0.5), np.sin(0.5)], atol=1e-6)
    np.testing.assert_allclose(vectors[1], [np.cos(0.5), np.sin(0.5)], atol=1e-6)
    np.testing.assert_allclose(vectors[2], vectors[0])
    assert embed_chunks([], 4, 2, embed).shape == (0, 2)


def test_auto_is_fp32_on_a_cpu_and_bf16_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("auto", CPU) == "fp32"
    for supported, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported: supported)
        assert choose_precision("auto", torch.device("cuda")) == expected
        assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("int8", CPU) == "int8"


def test_an_unknown_precision_or_device_is_an_error() -> None:
    with pytest.raises(DeviceError, match="no precision 'fp8'"):
        choose_precision("fp8", CPU)
    with pytest.raises(DeviceError, match="int8 runs on a CPU"):
        choose_precision("int8", torch.device("cuda"))
    with pytest.raises(DeviceError, match="cannot compute on 'abacus'"):
        choose_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="cannot compute on 'cuda:0'"):
            choose_device("cuda:0")


def test_texts_and_waveforms_may_come_one_by_one() -> None:
    assert validate_texts(x for x in ["a", "b"]) == ["a", "b"]  # type: ignore[arg-type]
    assert len(validate_waveforms(np.ones(3, np.float32) for _ in range(2))) == 2  # type: ignore[arg-type]


def test_without_a_compiler_compiling_is_refused_and_the_compiler_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(DeviceError, match="no-such-compiler is not installed"):
        load_encoder("clara-small", compile_model=True)


@pytest.mark.parametrize("vector", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_zero_and_infinite_vectors_are_refused(vector: list[float]) -> None:
    with pytest.raises(FormatError, match="zero or not finite"):
        unit_norm(torch.tensor([[1.0, 0.0], vector]))


def test_a_batch_that_fails_is_encoded_in_parts_and_only_bad_items_are_lost() -> None:
    too_large: list[int] = []

    def encode(items: Sequence[int]) -> npt.NDArray[np.float32]:
        if len(items) > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        if 3 in items:
            raise AudioError("item 3 is broken")
        if 9 in items:
            raise MemoryError
        return np.array(items, np.float32)[:, None]

    parts = [
        (list(items), vectors if isinstance(vectors, str) else vectors[:, 0].tolist())
        for items, vectors in encode_in_parts(encode, range(10), too_large.append)
    ]
    assert parts == [
        ([0, 1], [0.0, 1.0]),
        ([2], [2.0]),
        ([3], "item 3 is broken"),
        ([4], [4.0]),
        ([5, 6], [5.0, 6.0]),
        ([7, 8], [7.0, 8.0]),
        ([9], "does not fit into memory"),
    ]
    assert too_large == [10, 5, 5]


def test_an_encoder_s_own_fault_is_raised() -> None:
    def encode(items: Sequence[int]) -> npt.NDArray[np.float32]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        list(encode_in_parts(encode, [1, 2]))
