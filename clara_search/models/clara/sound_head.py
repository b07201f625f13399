"""The sound head: a second block of the vector, for sounds, beside the block for speech.

A recording's scores for AudioSet's classes (YAMNet) and a text's similarity to names of those classes (a multilingual
sentence encoder) are mapped to one space, each with a learned correction. The squared unit length is divided to keep
speech and sounds apart: for a text by how likely it names a sound; for a recording by how likely it is speech, another
sound, or only silence and noise. The rest of the length goes to a dimension in which the other modality is zero.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import tokenizers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clara_search.audio.waveform import Waveform
from clara_search.config import from_file
from clara_search.errors import FormatError
from clara_search.files.limits import EMBEDDING_DIM
from clara_search.models.batching import padding_mask
from clara_search.models.clara.sentence_encoder import DIM as TEXT_DIM
from clara_search.models.clara.sentence_encoder import SentenceEncoder
from clara_search.models.clara.yamnet import CLASSES, FEATURES, Yamnet, log_mel_patches
from clara_search.models.folder import read_json
from clara_search.models.stored.strict_loading import check_size, load_strictly, read_tensors
from clara_search.text.normalize import normalize_text
from clara_search.text.tokenizer_files import encode, load_tokenizer

CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE = "sounds.json", "sounds.safetensors", "sounds_tokenizer.json"
FILES = (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE)

KINDS = ("speech", "sound", "silence")

SCORE_OFFSET, FEATURE_OFFSET = 0.01, 0.1
"""Added before the logarithm, so that differences between much smaller values do not count."""

_MANY_WORDS = 8


@dataclass(frozen=True)
class SoundConfig:
    """Sizes of a sound head and weights of its blocks.

    Attributes:
        vocab_size: number of tokens of the sentence encoder.
        anchors: number of class names, several for each class, that a text is compared with.
        dim: dimensions of the block; the vector gets two more.
        hidden: hidden size of the learned corrections.
        sharpness: factor of a text's cosines to the anchors before their softmax.
        speech_share: share of the speech block in a text's squared length; half of it if the text surely names a sound.
        sound_share: share of the sound block in the squared length of a recording that is surely a sound.
    """

    vocab_size: int
    anchors: int
    dim: int = 254
    hidden: int = 512
    sharpness: float = 30.0
    speech_share: float = 0.5
    sound_share: float = 0.75

    def __post_init__(self) -> None:
        sizes = self.vocab_size, self.anchors, self.dim, self.hidden
        if min(sizes) < 1 or max(sizes) > 10_000_000:
            raise ValueError("the sizes of a sound head must lie between 1 and 10,000,000")
        EMBEDDING_DIM.check(self.dim, "a sound head", ValueError)
        if not (0 < self.speech_share < 1 and 0 < self.sound_share < 1 and self.sharpness > 0):
            raise ValueError("the shares of a sound head must lie between 0 and 1, its sharpness above 0")

    @property
    def added_dim(self) -> int:
        """Dimensions that the head adds to a vector: the block, and one for each modality that is zero in the other."""
        return self.dim + 2


class SoundHead(nn.Module):
    """Both encoders of the block, their common space, and the classifiers that weigh the blocks."""

    def __init__(self, config: SoundConfig) -> None:
        super().__init__()
        self.config = config
        self.yamnet = Yamnet()
        self.sentences = SentenceEncoder(config.vocab_size)
        self.score_mean, self.score_std = _numbers(CLASSES), _numbers(CLASSES)
        self.feature_mean, self.feature_std = _numbers(FEATURES), _numbers(FEATURES)
        self.class_vectors = nn.Linear(CLASSES, config.dim, bias=False)
        self.anchors = _numbers(config.anchors, TEXT_DIM)
        self.anchor_vectors = _numbers(config.anchors, config.dim)
        self.audio_correction = _correction(CLASSES + FEATURES, config)
        self.text_correction = _correction(TEXT_DIM, config)
        self.kinds = nn.Linear(CLASSES + FEATURES, len(KINDS))
        self.is_sound = nn.Linear(CLASSES + FEATURES, 1)
        self.names_sound = nn.Linear(TEXT_DIM + 4, 1)

    def join_audio(self, speech: Tensor, waveforms: Sequence[Waveform]) -> Tensor:
        """Return the vectors of recordings with both blocks.

        Args:
            speech: unit vectors (n, d) of the model without the head.
            waveforms: n mono waveforms (samples,) at 16 kHz.

        Returns:
            Unit vectors (n, d + added_dim).
        """
        device = self.score_mean.device
        patches = [log_mel_patches(torch.from_numpy(waveform).to(device)) for waveform in waveforms]
        scores, features = self.describe_patches(torch.cat(patches), [len(some) for some in patches])
        described = torch.cat([scores, features], dim=-1)
        sound = self.is_sound(described).sigmoid() * self.config.sound_share
        silence = self.kinds(described).softmax(dim=-1)[:, -1:]
        block = self.embed_audio(scores, features)
        audible = 1.0 - silence
        parts = [
            (audible * (1.0 - sound)).sqrt() * speech,
            (audible * sound).sqrt() * block,
            torch.zeros_like(silence),
            silence.sqrt(),
        ]
        return torch.cat(parts, dim=-1)

    def describe_patches(self, patches: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return standardized class scores (n, 521) and features (n, 1024) of waveforms.

        Args:
            patches: log-mel patches (p, 96, 64) of all waveforms, in their order.
            counts: number of patches of each of the n waveforms, p in all.
        """
        features = self.yamnet(patches)
        scores = self.yamnet.classes(features).sigmoid()
        mean_scores, mean_features = (
            torch.stack([some.mean(dim=0) for some in x.split(list(counts))]) for x in (scores, features)
        )
        return self.standardize(mean_scores, mean_features)

    def standardize(self, scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithms of mean scores (n, 521) and features (n, 1024), standardized by the training sounds."""
        return (
            ((scores + SCORE_OFFSET).log() - self.score_mean) / self.score_std,
            ((features + FEATURE_OFFSET).log() - self.feature_mean) / self.feature_std,
        )

    def embed_audio(self, scores: Tensor, features: Tensor) -> Tensor:
        """Return the unit sound blocks (n, dim) of standardized scores (n, 521) and features (n, 1024)."""
        known = F.normalize(self.class_vectors(scores), dim=-1)
        return F.normalize(known + self.audio_correction(torch.cat([scores, features], dim=-1)), dim=-1)

    def join_text(self, speech: Tensor, meanings: Tensor, words: Tensor) -> Tensor:
        """Return the vectors of texts with both blocks.

        Args:
            speech: unit vectors (n, d) of the model without the head.
            meanings: vectors (n, 512) of the sentence encoder.
            words: number of words of each text, (n,).

        Returns:
            Unit vectors (n, d + added_dim).
        """
        similarity = meanings @ self.anchors.T
        sound = self.names_sound(self.describe_texts(meanings, words, similarity)).sigmoid()
        # The share is the same for all texts that may be speech, or a recording of speech would favour some of them.
        share = self.config.speech_share * (1.0 - 0.5 * sound**4)
        parts = [
            share.sqrt() * speech,
            ((1.0 - share) * sound).sqrt() * self.embed_text(meanings, similarity),
            ((1.0 - share) * (1.0 - sound)).sqrt(),
            torch.zeros_like(sound),
        ]
        return torch.cat(parts, dim=-1)

    def embed_text(self, meanings: Tensor, similarity: Tensor) -> Tensor:
        """Return the unit sound blocks (n, dim) of texts, from meanings (n, 512) and cosines to the anchors."""
        weights = (similarity * self.config.sharpness).softmax(dim=-1)
        known = F.normalize(weights @ self.anchor_vectors, dim=-1)
        return F.normalize(known + self.text_correction(meanings), dim=-1)

    def describe_texts(self, meanings: Tensor, words: Tensor, similarity: Tensor) -> Tensor:
        """Return the features that recognize names of sounds: meaning, length and similarity to the nearest anchor.

        Args:
            meanings: vectors (n, 512) of the sentence encoder.
            words: number of words of each text, (n,).
            similarity: cosines to the anchors, (n, anchors).

        Returns:
            Features (n, 516).
        """
        count = words[:, None].float().clamp(min=1.0)
        nearest = similarity.amax(dim=-1, keepdim=True)
        length = count.log()
        return torch.cat([meanings, length, nearest, nearest * length, count.clamp(max=_MANY_WORDS)], dim=-1)


def _numbers(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape), requires_grad=False)


def _correction(width: int, config: SoundConfig) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.dim))


class SoundTokenizer:
    """The tokenizer of the sentence encoder; case and punctuation of texts do not matter."""

    def __init__(self, unigram: tokenizers.Tokenizer) -> None:
        self._unigram = unigram

    @classmethod
    def load(cls, path: Path) -> SoundTokenizer:
        """Read a tokenizer file.

        Raises:
            FormatError: The file cannot be read.
        """
        return cls(load_tokenizer(path))

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self._unigram.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Return the token ids of each text, at least one, and its number of words."""
        plain = [normalize_text(text) for text in texts]
        return [encoding.ids for encoding in encode(self._unigram, plain)], [len(x.split()) for x in plain]


def embed_meanings(head: SoundHead, ids: Sequence[Sequence[int]]) -> Tensor:
    """Return the unit meaning vectors (n, 512) of texts, given as token ids; they do not depend on the batch."""
    lengths = [len(some) for some in ids]
    mask = padding_mask(lengths)
    padded = torch.zeros(mask.shape, dtype=torch.long)
    padded[mask] = torch.tensor([token for some in ids for token in some])
    device = head.score_mean.device
    return head.sentences(padded.to(device), mask.to(device))  # type: ignore[no-any-return]


def read_config(folder: Path) -> SoundConfig | None:
    """Return the configuration of the sound head of a model folder; None if it has none.

    Raises:
        FormatError: The configuration is broken, or only some of the head's files exist.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if len(missing) == len(FILES):
        return None
    if missing:
        raise FormatError(f"{folder}: has an incomplete sound head: it has no {' and no '.join(missing)}")
    return from_file(SoundConfig, read_json(folder, CONFIG_FILE), folder / CONFIG_FILE)


def load_sound_head(folder: Path) -> tuple[SoundHead, SoundTokenizer] | None:
    """Return the sound head of a model folder, in evaluation mode, float32, with its tokenizer; None if it has none.

    Raises:
        FormatError: A file of the head is broken or missing.
    """
    config = read_config(folder)
    if config is None:
        return None
    tokenizer = SoundTokenizer.load(folder / TOKENIZER_FILE)
    if tokenizer.vocab_size > config.vocab_size:
        raise FormatError(
            f"{folder / TOKENIZER_FILE}: has {tokenizer.vocab_size} tokens, the model has {config.vocab_size}"
        )
    with torch.device("meta"):
        head = SoundHead(config)
    path = folder / WEIGHTS_FILE
    check_size(head, path)
    load_strictly(head, read_tensors(path), path)
    # Convolutions are 1.8 times as fast in this format. (The stubs of torch lack the argument.)
    head.yamnet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return head.eval(), tokenizer


def save_sound_head(folder: Path, head: SoundHead, tokenizer: tokenizers.Tokenizer) -> None:
    """Write the files of a sound head into a model folder: weights in float16, token embeddings in 4 bits.

    Args:
        folder: a model folder; its other files are not changed.
        head: the sound head.
        tokenizer: the tokenizer of its sentence encoder.
    """
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in head.state_dict().items()
    }
    safetensors.torch.save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)  # the library writes for its user alone
    tokenizer.save(str(folder / TOKENIZER_FILE), pretty=False)
    (folder / CONFIG_FILE).write_text(json.dumps(asdict(head.config), indent=2) + "\n", encoding="utf-8")
