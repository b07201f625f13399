"""CLAP models of the `transformers` library (LAION's clap-htsat-unfused, larger_clap_*, ...) as an Encoder."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clara_search.audio.waveform import Waveform
from clara_search.errors import ClaraError, DeviceError, FormatError, UnknownModel, first_line
from clara_search.models.batching import (
    TEXT_TOKENS_PER_BATCH,
    batch_budget,
    check_compiler,
    choose_device,
    choose_precision,
    embed_chunks,
    length_batches,
    unit_norm,
    validate_texts,
    validate_waveforms,
)
from clara_search.models.clap_weights import load_clap, weight_files
from clara_search.models.clara.checkpoint import count_parameters, read_json, update_from_file
from clara_search.text.languages import is_specified

log = logging.getLogger(__name__)

CLIPS_PER_BATCH = {"cpu": 4, "cuda": 64}
"""Windows embedded at once: all have the length that the model was trained on."""

FEATURES_FILE = "preprocessor_config.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")

MEL_FLOOR = 1e-10


class ClapEncoder:
    """Embeds waveforms and texts with the `ClapModel` in `folder`; the same clip has the same vector in every run.

    `transformers` takes a random crop of a clip that is longer than ten seconds, and marks a random clip of a batch for
    feature fusion. Here a longer clip is cut into windows of the model's length whose vectors are averaged, and none is
    marked: each window is heard whole. A clip of at most that length has the vector that `transformers` gives it where
    it is not the one marked. `language` is of no use to these models; that it is ignored is logged once.
    """

    def __init__(
        self,
        folder: Path,
        device: str | None = None,
        precision: str = "auto",
        compile_model: bool = False,
        name: str | None = None,
    ) -> None:
        try:
            from transformers import AutoTokenizer, ClapFeatureExtractor
        except (ImportError, OSError) as error:  # OSError: a torchaudio beside it that was built for another torch
            message = f"{folder}: a CLAP model needs transformers: pip install 'clara-search[clap]' ({error})"
            raise UnknownModel(message) from error
        self._arguments = (folder, device, precision, compile_model, name)
        self._folder, self._name = folder, name or folder.resolve().name
        self._device = choose_device(device)
        self.precision = choose_precision(precision, self._device)
        if self.precision == "int8":
            raise DeviceError("CLAP models run in fp32 or bf16, not in int8")
        self._dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        try:
            # All that is known of the folder is read from it: nothing is looked up on a network, no code in it is run.
            self._model: Any = load_clap(folder, self._dtype)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._features: Any = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
        except ClaraError:
            raise
        except Exception as error:  # transformers raises nearly anything for a broken folder
            raise FormatError(f"{folder}: not a CLAP model that can be loaded ({first_line(error)})") from error
        self._check_fit()
        self._model = self._model.to(self._device).eval()
        self._fusion = bool(self._model.config.audio_config.enable_fusion)
        of_fusion = self._features.truncation == "fusion"
        filters = self._features.mel_filters if of_fusion else self._features.mel_filters_slaney
        self._filters = torch.from_numpy(np.asarray(filters, dtype=np.float32))
        self._is_language_ignored = False
        self._window = torch.hann_window(self._features.fft_window_size)
        if compile_model:
            check_compiler(self._device)
            self._model.audio_model.compile()
            self._model.text_model.compile(dynamic=True)

    def _check_fit(self) -> None:
        """Raise FormatError for a tokenizer or features of another model, and for a folder without a tokenizer.

        `transformers` makes an empty tokenizer then, and all texts have the same vector.
        """
        names, (whole, *parts) = {path.name for path in self._folder.iterdir()}, TOKENIZER_FILES
        if whole not in names and not names.issuperset(parts):
            raise FormatError(f"{self._folder}: holds no tokenizer: neither {whole} nor {' and '.join(parts)}")
        tokens, embeddings = len(self._tokenizer), self._model.config.text_config.vocab_size
        if tokens > embeddings:
            raise FormatError(
                f"{self._folder}: its tokenizer has {tokens} tokens, its model embeddings for {embeddings}"
            )
        bands, expected = self._features.feature_size, self._model.config.audio_config.num_mel_bins
        if bands != expected:
            raise FormatError(f"{self._folder / FEATURES_FILE}: has {bands} mel bands, the model {expected}")

    def __reduce__(self) -> tuple[type[ClapEncoder], tuple[object, ...]]:
        """Pickle what it was loaded with: another process loads it again, on a device of its own."""
        return ClapEncoder, self._arguments

    @property
    def name(self) -> str:
        """The hub id, or the folder's name."""
        return self._name

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over configuration, weights and tokenizer; the same in every precision."""
        return fingerprint(self._folder)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._model.config.projection_dim)

    @property
    def sample_rate(self) -> int:
        """Hz that `encode_audio` expects."""
        return int(self._features.sampling_rate)

    def encode_audio(self, waveforms: Sequence[Waveform]) -> npt.NDArray[np.float32]:
        """Return unit vectors, shape (n, dim), of mono waveforms at `sample_rate` Hz.

        Raises AudioError, saying which, for one that is empty, not mono or not finite.
        """
        longest = int(self._features.nb_max_samples)
        return embed_chunks(validate_waveforms(waveforms), longest, self.dim, self._embed_windows)

    def _embed_windows(self, waveforms: list[Waveform]) -> npt.NDArray[np.float32]:
        vectors = np.empty((len(waveforms), self.dim), dtype=np.float32)
        together = batch_budget(self._device, CLIPS_PER_BATCH)
        with torch.inference_mode():
            for start in range(0, len(waveforms), together):
                mels = torch.stack([self._log_mel(waveform) for waveform in waveforms[start : start + together]])
                mels = mels[:, None].expand(-1, 4 if self._fusion else 1, -1, -1)
                found = self._model.get_audio_features(
                    input_features=mels.to(self._device, self._dtype),
                    is_longer=torch.zeros(len(mels), 1, dtype=torch.bool, device=self._device),
                )
                vectors[start : start + together] = unit_norm(found.pooler_output)
        return vectors

    def _log_mel(self, waveform: Waveform) -> torch.Tensor:
        """Return the log-mel of `waveform` brought to the model's length, (frames, n_mels) in dB, as CLAP takes it."""
        extractor = self._features
        longest = int(extractor.nb_max_samples)
        if extractor.padding == "repeat":
            waveform = np.tile(waveform, longest // len(waveform) + 1)[:longest]
        elif extractor.padding == "repeatpad":
            waveform = np.tile(waveform, longest // len(waveform))
        spectrum = torch.stft(
            torch.from_numpy(np.pad(waveform, (0, longest - len(waveform)))),
            extractor.fft_window_size,
            hop_length=extractor.hop_length,
            window=self._window,
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return 10.0 * torch.log10((power.T @ self._filters).clamp_min(MEL_FLOOR))

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> npt.NDArray[np.float32]:
        """Return unit vectors, shape (n, dim), of `texts`; one of more tokens than the model takes is cut there."""
        texts = validate_texts(texts)
        if is_specified(language) and not self._is_language_ignored:
            self._is_language_ignored = True
            log.warning("%s takes texts of any language alike: the language %r is ignored", self._name, language)
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        positions = self._model.config.text_config.max_position_embeddings - self._model.config.text_config.pad_token_id
        encoded = [self._tokenizer(text, truncation=True, max_length=positions - 1)["input_ids"] for text in texts]
        with torch.inference_mode():
            for indices in length_batches(list(map(len, encoded)), batch_budget(self._device, TEXT_TOKENS_PER_BATCH)):
                padded = self._tokenizer.pad({"input_ids": [encoded[i] for i in indices]}, return_tensors="pt")
                found = self._model.get_text_features(
                    input_ids=padded["input_ids"].to(self._device),
                    attention_mask=padded["attention_mask"].to(self._device),
                )
                vectors[indices] = unit_norm(found.pooler_output)
        return vectors


def fingerprint(folder: Path) -> str:
    """Return the SHA-256, in hex, over what decides a vector. Raises FormatError where a file of it is missing."""
    config = {key: value for key, value in read_json(folder).items() if not key.startswith(("_", "transformers_"))}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    tokenizer = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    for path in [folder / FEATURES_FILE, *(folder / name for name in tokenizer), *weight_files(folder)]:
        update_from_file(digest, path)
    return digest.hexdigest()


def describe(folder: Path) -> dict[str, Any]:
    """Return what is known of the model in `folder`, without loading it."""
    config, features = read_json(folder), read_json(folder, FEATURES_FILE)
    weights = weight_files(folder)
    return {
        "name": folder.resolve().name,
        "dim": config.get("projection_dim", 512),
        "sample_rate": features.get("sampling_rate", 48000),
        "parameters": count_parameters(weights),
        "size_bytes": sum(path.stat().st_size for path in weights),
        "tokenizer": f"{(config.get('text_config') or {}).get('vocab_size', 50265)} tokens (RoBERTa)",
        "fingerprint": fingerprint(folder),
    }
