"""Clips and texts per second of an encoder, compared with a plain implementation of the released attention."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.examples import model_option
from benchmarks.hardware import device_name, matmul_flops_per_s, seconds_of
from benchmarks.report import markdown, out_option, publish
from clara_search.audio.mel import log_mel
from clara_search.audio.waveform import Waveform
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.batching import choose_device, padding_mask
from clara_search.models.clara.checkpoint import load_model, save_model
from clara_search.models.clara.convert import PRESETS
from clara_search.models.clara.layers import Attention
from clara_search.models.clara.sound_head import FILES as SOUND_HEAD_FILES
from clara_search.models.clara.text_phones import load_pronouncer, pronounced_bigrams
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import find_model, load_encoder, model_type
from clara_search.text.normalize import normalize_text
from trainer.pretraining.tokenizer import train_tokenizer

PLAIN_BATCH = 16
"""Clips that the plain implementation embeds at once, in their order, padded to the longest: the released batch."""

DURATIONS_S = (1.0, 5.0, 10.0, 30.0)
WORDS = "a dog barks in the rain while somebody talks about the weather and a car drives past slowly".split()


class PlainAttention(Attention):
    """Attention as in the released code: two einsums and a softmax over the whole matrix."""

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `Attention.forward`."""
        q = self._split(self.to_q(queries)) * (self.to_q.out_features // self.heads) ** -0.5
        k, v = map(self._split, self.to_kv(context).chunk(2, dim=-1))
        similarity = torch.einsum("bhid,bhjd->bhij", q, k)
        if mask is not None:
            similarity = similarity.masked_fill(~mask[:, None, None, :], -torch.finfo(similarity.dtype).max)
        attended = torch.einsum("bhij,bhjd->bhid", similarity.softmax(dim=-1), v)
        return self.to_out(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class PlainEncoder:
    """The model in `folder` with `PlainAttention`, in fp32, whose batches are not sorted by length."""

    def __init__(self, folder: Path, device: str | None) -> None:
        model, self.tokenizer = load_model(folder)
        self.pronouncer = load_pronouncer(folder, model.config.phone_head)
        self.model = model.to(choose_device(device))
        for module in self.model.modules():
            if isinstance(module, Attention):
                module.__class__ = PlainAttention
        self.model.requires_grad_(requires_grad=False)
        self.device = next(self.model.parameters()).device

    @torch.inference_mode()
    def encode_audio(self, waveforms: Sequence[Waveform]) -> Embeddings:
        """As `Encoder.encode_audio`, for clips no longer than the model has positions."""
        vectors = []
        for start in range(0, len(waveforms), PLAIN_BATCH):
            part = waveforms[start : start + PLAIN_BATCH]
            log_mels = [log_mel(x, self.model.config.mel, self.device) for x in part]
            mask = padding_mask([len(x) for x in log_mels])
            frames = pad_sequence(log_mels, batch_first=True)
            vectors.append(self.model.embed_log_mels(frames, mask.to(self.device)).cpu())
        return torch.cat(vectors).numpy()

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Embeddings:
        """As `Encoder.encode_text`."""
        vectors = []
        for start in range(0, len(texts), PLAIN_BATCH):
            part = texts[start : start + PLAIN_BATCH]
            words = part if self.pronouncer is None else [normalize_text(text) for text in part]
            ids, mask = self.tokenizer.encode(words, [None] * len(part), self.model.config.text.max_positions)
            inputs = [torch.from_numpy(ids), torch.from_numpy(mask), *self._pronounce(part)]
            vectors.append(self.model.embed_tokens(*(tensor.to(self.device) for tensor in inputs)).cpu())
        return torch.cat(vectors).numpy()

    def _pronounce(self, texts: Sequence[str]) -> tuple[Tensor, ...]:
        phone_head = self.model.config.phone_head
        if self.pronouncer is None or phone_head is None:
            return ()
        return pronounced_bigrams(self.pronouncer, phone_head.phones, texts, None)


@dataclass(frozen=True)
class Workload:
    """Clips and their seconds of audio, or texts."""

    name: str
    clips: Sequence[Waveform] = ()
    texts: Sequence[str] = ()
    audio_s: float = 0.0

    def run(self, encoder: Encoder | PlainEncoder) -> Embeddings:
        """Return the vectors of the clips or texts."""
        return encoder.encode_audio(self.clips) if self.clips else encoder.encode_text(self.texts)

    def __len__(self) -> int:
        return len(self.clips) + len(self.texts)


@click.command()
@model_option
@click.option("--precision", "precisions", multiple=True, default=("fp32",), show_default=True, help="Repeatable.")
@click.option("--device", help='Where to compute, such as "cpu" or "cuda:0".  [default: a GPU if there is any]')
@click.option("--clips", type=click.IntRange(min=1), default=32, show_default=True, help="Clips of each length.")
@click.option("--texts", type=click.IntRange(min=1), default=256, show_default=True, help="Texts of 3 to 18 words.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Timings of each, in turn.")
@click.option("--compile", "compile_model", is_flag=True, help="Compile the encoder, but not the plain implementation.")
@out_option
def throughput(
    model: str,
    precisions: tuple[str, ...],
    device: str | None,
    clips: int,
    texts: int,
    rounds: int,
    compile_model: bool,
    out: Path | None,
) -> None:
    """Time an encoder on noise and on texts.

    The noise has 1, 5, 10 and 30 s, and mixed lengths. --model may also be clara-60m, clara-100m or clara-600m, a
    released size with random weights. A CLARA model is compared with a plain implementation of the released attention
    with the same weights, in fp32: by the medians of their times and by their vectors; a sound head is left out.
    """
    with _folder_of(model) as whole_folder, _without_sound_head(whole_folder) as model_folder:
        encoders: dict[str, Encoder | PlainEncoder] = {
            precision: load_encoder(model_folder, device, precision, compile_model) for precision in precisions
        }
        first = encoders[precisions[0]]
        assert isinstance(first, Encoder)
        if model_type(Path(model_folder)) == "clara":
            encoders["plain"] = PlainEncoder(Path(model_folder), device)
        rows, results = [], []
        for workload in workloads(first.sample_rate, clips, texts):
            measured = measure(workload, encoders, rounds)
            results.append({"workload": workload.name, "items": len(workload), **measured})
            rows += [_row(workload, name, facts) for name, facts in measured.items()]
    result: dict[str, Any] = {
        "benchmark": "throughput",
        "model": model,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "compiled": compile_model,
        "results": results,
    }
    if "plain" in encoders:
        result["arithmetic"] = arithmetic(encoders["plain"], first, result)
    headings = ["", "items/s", "seconds of audio per second", "relative to plain", "lowest cosine to plain"]
    publish(result, f"{model} on {result['device']}\n\n{markdown(headings, rows)}\n{_sentence(result)}", out)


def workloads(sample_rate: int, clips: int, texts: int, seed: int = 0) -> Iterator[Workload]:
    """Yield noise of each duration, noise of mixed durations (1 to 10 s, unsorted), and texts of 3 to 18 words."""
    rng = np.random.default_rng(seed)

    def noise(seconds: float) -> Waveform:
        return (0.1 * rng.standard_normal(round(seconds * sample_rate))).astype(np.float32)

    for duration_s in DURATIONS_S:
        yield Workload(f"{duration_s:.0f} s", [noise(duration_s) for _ in range(clips)], (), clips * duration_s)
    durations_s = rng.uniform(1.0, 10.0, clips)
    yield Workload("1 to 10 s", [noise(seconds) for seconds in durations_s], (), float(durations_s.sum()))
    lengths = rng.integers(3, len(WORDS) + 1, texts)
    yield Workload("texts", (), [" ".join(rng.permutation(WORDS)[:length]) for length in lengths])


def measure(workload: Workload, encoders: dict[str, Encoder | PlainEncoder], rounds: int) -> dict[str, dict[str, Any]]:
    """Return, by encoder, the seconds of each round and the differences between its vectors and those of "plain"."""
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    vectors = {name: workload.run(encoder) for name, encoder in encoders.items()}  # warms up, too
    for _ in range(rounds):
        for name, encoder in encoders.items():
            seconds[name].append(seconds_of(lambda encoder=encoder: workload.run(encoder)))  # type: ignore[misc]
    measured: dict[str, dict[str, Any]] = {}
    for name in encoders:
        median = float(np.median(seconds[name]))
        measured[name] = {
            "seconds": seconds[name],
            "items_per_s": len(workload) / median,
            "audio_s_per_s": workload.audio_s / median,
        }
        if "plain" in encoders:
            cosines = (vectors[name] * vectors["plain"]).sum(axis=1)
            measured[name]["ratio"] = float(np.median(seconds["plain"])) / median
            measured[name]["lowest_cosine"] = float(cosines.min())
            measured[name]["largest_difference"] = float(np.abs(vectors[name] - vectors["plain"]).max())
    return measured


def arithmetic(plain: Encoder | PlainEncoder, encoder: Encoder, result: dict[str, Any]) -> dict[str, float]:
    """Return the operations per second of the encoder on clips of 10 s, and of large matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    assert isinstance(plain, PlainEncoder)
    frames = 1 + 10 * encoder.sample_rate // plain.model.config.mel.hop_length
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        plain.model.embed_log_mels(torch.zeros(1, frames, plain.model.config.mel.n_mels, device=plain.device))
    per_clip = float(counter.get_total_flops())
    ten_seconds = next(facts for facts in result["results"] if facts["workload"] == "10 s")
    rate = next(iter(value for name, value in ten_seconds.items() if name not in ("workload", "items")))["items_per_s"]
    dtype = torch.bfloat16 if getattr(encoder, "precision", "fp32") == "bf16" else torch.float32
    matmul = matmul_flops_per_s(plain.device, dtype)
    return {"flops_per_clip": per_clip, "flops_per_s": per_clip * rate, "matmul_flops_per_s": matmul}


def _row(workload: Workload, name: str, facts: dict[str, Any]) -> list[str]:
    compared = "ratio" in facts
    return [
        f"{workload.name}, {name}",
        f"{facts['items_per_s']:.2f}",
        f"{facts['audio_s_per_s']:.1f}" if workload.clips else "",
        f"{facts['ratio']:.2f} x" if compared else "",
        f"{facts['lowest_cosine']:.6f}" if compared else "",
    ]


def _sentence(result: dict[str, Any]) -> str:
    if "arithmetic" not in result:
        return ""
    facts = result["arithmetic"]
    return (
        f"\nA clip of 10 s takes {facts['flops_per_clip'] / 1e9:.1f} GFLOP; the first precision computes "
        f"{facts['flops_per_s'] / 1e9:,.0f} GFLOP/s, {facts['flops_per_s'] / facts['matmul_flops_per_s']:.0%} of the "
        "rate of large matrix products in that precision."
    )


@contextmanager
def _without_sound_head(folder: Path) -> Iterator[Path]:
    """Yield a folder of the model in `folder` without its sound head, which the plain implementation does not have."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(*SOUND_HEAD_FILES), dirs_exist_ok=True)
        yield Path(copy)


@contextmanager
def _folder_of(model: str) -> Iterator[Path]:
    """Yield the folder of `model`; for a released size, one with random weights and a small tokenizer."""
    if model not in PRESETS:
        yield find_model(model)
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        tokenizer = train_tokenizer([" ".join(WORDS)], 1000, ["en"])
        save_model(Path(folder), Clara(PRESETS[model]), tokenizer, "", torch.float32)
        yield Path(folder)
