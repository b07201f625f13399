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
from clara_search.files.json_reader import parse_object
from clara_search.files.limits import JSON_BYTES, TEXT_CHARACTERS
from clara_search.files.regular import read_regular
from clara_search.models.base import DEFAULT_OPTIONS, LoadOptions
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
from clara_search.models.clap_weights import FEATURES_FILE, load_clap, read_features, weight_files
from clara_search.models.folder import count_parameters, hash_file, read_json, warn_of_code
from clara_search.text.languages import is_specified
from clara_search.text.tokenizer_files import load_tokenizer, no_panic

log = logging.getLogger(__name__)

CLIPS_PER_BATCH = {"cpu": 4, "cuda": 64}
"""Windows per batch, each of the length that the model was trained on."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
_TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

MEL_FLOOR = 1e-10


class ClapEncoder:
    """Encoder of a `ClapModel` folder of `transformers`.

    `transformers` takes a random crop of a clip longer than ten seconds, and marks a random clip of a batch for feature
    fusion. This encoder cuts a longer clip into windows of the model's length and averages their vectors, and marks
    none: the same clip has the same vector in every run. A shorter clip has the vector that `transformers` gives it
    when it is not the marked one. The models do not distinguish languages: `language` is ignored, which is logged once.

    Attributes:
        precision: Precision in use, "fp32" or "bf16".
    """

    takes_language = False

    def __init__(self, folder: Path, options: LoadOptions = DEFAULT_OPTIONS) -> None:
        try:
            from transformers import AutoTokenizer, ClapFeatureExtractor
        except (ImportError, OSError) as error:  # OSError: an installed torchaudio was built for another torch
            message = f"{folder}: a CLAP model needs transformers: pip install 'clara-search[clap]' ({error})"
            raise UnknownModel(message) from error
        self._arguments = (folder, options)
        self._folder, self._name = folder, options.name or folder.resolve().name
        self._device = choose_device(options.device)
        self.precision = choose_precision(options.precision, self._device)
        if self.precision == "int8":
            raise DeviceError("CLAP models run in fp32 or bf16, not in int8")
        self._dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        try:
            # Everything is read from the folder: no network is asked, no code in the folder is run.
            warn_of_code(folder)
            self._model: Any = load_clap(folder, self._dtype)
            _check_tokenizer(folder)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            self._features: Any = ClapFeatureExtractor.from_dict(read_features(folder))
        except ClaraError:
            raise
        except Exception as error:  # transformers raises nearly anything for a broken folder
            raise FormatError(f"{folder}: not a CLAP model that can be loaded ({first_line(error)})") from error
        self._check_fit()
        self._model = self._model.to(self._device).eval()
        self._fusion = bool(self._model.config.audio_config.enable_fusion)
        is_fusion = self._features.truncation == "fusion"
        filters = self._features.mel_filters if is_fusion else self._features.mel_filters_slaney
        self._filters = torch.from_numpy(np.asarray(filters, dtype=np.float32))
        self._is_language_ignored = False
        self._window = torch.hann_window(self._features.fft_window_size)
        if options.compile_model:
            check_compiler(self._device)
            self._model.audio_model.compile()
            self._model.text_model.compile(dynamic=True)

    @classmethod
    def load(cls, source: str | Path, options: LoadOptions) -> ClapEncoder:
        """Load the model folder `source`; see `EncoderType.load`."""
        return cls(Path(source), options)

    @classmethod
    def describe(cls, source: str | Path) -> dict[str, Any]:
        """Describe the model folder `source`; see `EncoderType.describe`."""
        return describe(Path(source))

    def _check_fit(self) -> None:
        """Raise FormatError if the tokenizer is missing, or tokenizer or features are another model's.

        Without tokenizer files, `transformers` makes an empty tokenizer, and all texts have the same vector.
        """
        names, (whole, *parts) = {path.name for path in self._folder.iterdir()}, TOKENIZER_FILES
        if whole not in names and not names.issuperset(parts):
            raise FormatError(f"{self._folder}: has no tokenizer: neither {whole} nor {' and '.join(parts)}")
        tokens, embeddings = len(self._tokenizer), self._model.config.text_config.vocab_size
        if tokens > embeddings:
            raise FormatError(
                f"{self._folder}: its tokenizer has {tokens} tokens, its model embeddings for {embeddings}"
            )
        bands, expected = self._features.feature_size, self._model.config.audio_config.num_mel_bins
        if bands != expected:
            raise FormatError(f"{self._folder / FEATURES_FILE}: has {bands} mel bands, the model {expected}")

    def __reduce__(self) -> tuple[type[ClapEncoder], tuple[object, ...]]:
        """Pickle the arguments: another process loads the model again, on a device of its own."""
        return ClapEncoder, self._arguments

    @property
    def name(self) -> str:
        """The hub id it was loaded by, or the folder's name."""
        return self._name

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over configuration, weights and tokenizer; the same in every precision."""
        return fingerprint(self._folder)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self._model.config.projection_dim)

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz that `encode_audio` expects."""
        return int(self._features.sampling_rate)

    def encode_audio(self, waveforms: Sequence[Waveform]) -> npt.NDArray[np.float32]:
        """Embed waveforms.

        A waveform longer than the model's window is embedded in chunks, whose vectors are averaged.

        Args:
            waveforms: Mono, each of shape (samples,), at `sample_rate` Hz.

        Returns:
            Unit vectors, shape (n, dim), float32.

        Raises:
            AudioError: A waveform is empty, not mono or not finite.
        """
        max_samples = int(self._features.nb_max_samples)
        return embed_chunks(validate_waveforms(waveforms), max_samples, self.dim, self._embed_windows)

    def _embed_windows(self, waveforms: list[Waveform]) -> npt.NDArray[np.float32]:
        vectors = np.empty((len(waveforms), self.dim), dtype=np.float32)
        batch_size = batch_budget(self._device, CLIPS_PER_BATCH)
        with torch.inference_mode():
            for start in range(0, len(waveforms), batch_size):
                batch = waveforms[start : start + batch_size]
                mels = torch.stack([self._log_mel(waveform) for waveform in batch])
                mels = mels[:, None].expand(-1, 4 if self._fusion else 1, -1, -1)
                output = self._model.get_audio_features(
                    input_features=mels.to(self._device, self._dtype),
                    is_longer=torch.zeros(len(mels), 1, dtype=torch.bool, device=self._device),
                )
                vectors[start : start + batch_size] = unit_norm(output.pooler_output)
        return vectors

    def _log_mel(self, waveform: Waveform) -> torch.Tensor:
        """Return the log-mel of `waveform`, repeated and padded to the model's length: (frames, n_mels), in dB."""
        extractor = self._features
        max_samples = int(extractor.nb_max_samples)
        if extractor.padding == "repeat":
            waveform = np.tile(waveform, max_samples // len(waveform) + 1)[:max_samples]
        elif extractor.padding == "repeatpad":
            waveform = np.tile(waveform, max_samples // len(waveform))
        spectrum = torch.stft(
            torch.from_numpy(np.pad(waveform, (0, max_samples - len(waveform)))),
            extractor.fft_window_size,
            hop_length=extractor.hop_length,
            window=self._window,
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return 10.0 * torch.log10((power.T @ self._filters).clamp_min(MEL_FLOOR))

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> npt.NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: Any strings. A text of more tokens than the model takes is truncated.
            language: Ignored, which is logged once.

        Returns:
            Unit vectors, shape (n, dim), float32.

        Raises:
            QueryError: `texts` is one string, or holds something that is not a Unicode string.
        """
        texts = validate_texts(texts)
        if is_specified(language) and not self._is_language_ignored:
            self._is_language_ignored = True
            log.warning("%s does not distinguish languages: the language %r is ignored", self._name, language)
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        positions = self._model.config.text_config.max_position_embeddings - self._model.config.text_config.pad_token_id
        with no_panic("the model's tokenizer"):
            encoded = [
                self._tokenizer(text[: TEXT_CHARACTERS.value], truncation=True, max_length=positions - 1)["input_ids"]
                for text in texts
            ]
        with torch.inference_mode():
            for indices in length_batches(list(map(len, encoded)), batch_budget(self._device, TEXT_TOKENS_PER_BATCH)):
                padded = self._tokenizer.pad({"input_ids": [encoded[i] for i in indices]}, return_tensors="pt")
                output = self._model.get_text_features(
                    input_ids=padded["input_ids"].to(self._device),
                    attention_mask=padded["attention_mask"].to(self._device),
                )
                vectors[indices] = unit_norm(output.pooler_output)
        return vectors


def _check_tokenizer(folder: Path) -> None:
    """Check the files of the tokenizer in `folder` before `transformers` reads them. Raises FormatError."""
    for name in (*_TOKENIZER_SETTINGS, *TOKENIZER_FILES):
        path = folder / name
        if not path.is_file():
            continue
        if name == "tokenizer.json":
            load_tokenizer(path)
            continue
        content = read_regular(path, JSON_BYTES)
        if path.suffix == ".json":
            parse_object(content, path, is_row=True)  # a length without a limit is a number of 31 digits


def fingerprint(folder: Path) -> str:
    """Return the SHA-256, in hex, over everything that decides a vector: configuration, weights, tokenizer.

    Raises:
        FormatError: A file is missing.
    """
    config = {key: value for key, value in read_json(folder).items() if not key.startswith(("_", "transformers_"))}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    tokenizer = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    for path in [folder / FEATURES_FILE, *(folder / name for name in tokenizer), *weight_files(folder)]:
        hash_file(digest, path)
    return digest.hexdigest()


def describe(folder: Path) -> dict[str, Any]:
    """Return the facts that `clara-search models show` prints, without loading the model in `folder`.

    Raises:
        FormatError: A file is missing or broken.
    """
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
