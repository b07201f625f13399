"""Fits the speech half of a model with a phone head, in three stages that an interrupted call takes up again.

1. Pronunciation rules of some thirty languages, so that texts need no text tower to have phones.
2. The audio tower recognises phones (`trainer.speech.recognition`).
3. The bigram projection is fitted to what the tower recognises now (`trainer.pretraining.phone_bigrams`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from clara_search.errors import ConfigError, MissingDependency
from clara_search.files.atomic import make_folder
from clara_search.models.clara.checkpoint import copy_optional_files, load_model, read_config, save_model
from clara_search.models.clara.config import ClaraConfig
from clara_search.models.clara.text_phones import PRONUNCIATION_FILE, load_pronouncer, read_pronouncer
from clara_search.models.clara.towers import Clara
from clara_search.models.folder import read_card
from clara_search.models.registry import find_model
from clara_search.text.pronunciation import LanguageRules, Pronouncer
from trainer.config.evaluation import bundled_digits
from trainer.config.sections import DataConfig
from trainer.data.corpus import Corpus, load_corpus
from trainer.data.splits import split_corpus
from trainer.phones.espeak import SpeechError, voice_variants
from trainer.phones.g2p import PhoneTargets
from trainer.phones.rules import DEFAULT_WORDS, LANGUAGES, learn_language
from trainer.speech.batches import PhoneBatches, RecognitionConfig, first_process_first, rank_and_world
from trainer.speech.package import read_phones, write_package
from trainer.speech.projection import MAX_AUDIO_S, MIN_AUDIO_S, Projection, cached, fit_projection
from trainer.speech.random_speech import RandomSpeech
from trainer.speech.recognition import fit_phones, pooled_targets

log = logging.getLogger(__name__)

FRAME_KERNEL, SLOTS_PER_FRAME = 5, 3
"""Convolutions and slots that a model without them gets."""

TOKEN_SHARE = 0.2
"""Factor of what a text tower adds to the phones of a text once they are known by rules: more of it hides them."""


@dataclass(frozen=True)
class SpeechFitting:
    """Settings.

    Attributes:
        held_out: Speakers that are not trained on.
        excluded: Sources that are not trained on, such as "warzone2100", or of one language: "qabcs_words:pl".
        weights: How often an epoch draws a recording, by source ("gcin_voice"), language ("es") or kind ("sound").
        recognition: Settings of the second stage; its `steps` may be 0.
        projection_recordings: Recordings that the projection is fitted to.
        projection_synthetic: Synthetic recordings beside them.
        projection_steps: Steps of the third stage.
        words: Most frequent words of each language that rules are learned from; None: the rules of the model stay, or
            are learned from `DEFAULT_WORDS` where it has none.
        languages: Languages of the rules.
        phones: File with the phones of the transcripts, out of a package; None: espeak-ng tells them.
        device: Where the audio tower is trained.
        workers: Processes that prepare its batches.
    """

    held_out: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    weights: Mapping[str, float] | None = None
    recognition: RecognitionConfig = field(default_factory=RecognitionConfig)
    projection_recordings: int = 40_000
    projection_synthetic: int = 3000
    projection_steps: int = 900
    words: int | None = None
    languages: tuple[str, ...] = LANGUAGES
    phones: Path | None = None
    device: str = "cpu"
    workers: int = 1


DEFAULT_WEIGHTS: Mapping[str, float] = {
    "sound": 0.35,
    "music": 0.35,
    "gcin_voice": 0.3,
    "es": 3.0,
    "de": 2.0,
    "nl": 2.0,
}
"""Languages that are to be known and have few recordings count more, single syllables and sounds less."""


def fit_speech(source: str, patterns: Sequence[str], settings: SpeechFitting, out: Path) -> Path:
    """Fit the speech half of a model.

    Args:
        source: Name or folder of the model; its sound head is kept.
        patterns: Shards, folders, patterns or URLs of recordings with texts.
        settings: Settings.
        out: Folder of the run, which keeps what is finished.

    Returns:
        The folder of the new model.

    Raises:
        ConfigError: The model has no phone head.
    """
    folder = find_model(source)
    model, tokenizer = load_model(folder)
    model.float()
    phone_head = model.config.phone_head
    if phone_head is None:
        raise ConfigError(f"{source}: has no phone head")
    make_folder(out)
    with first_process_first():
        pronouncer = load_pronouncer(folder, model.config.phone_head) if settings.words is None else None
        pronouncer = pronouncer or _learn_rules(settings, out)
        corpus = load_corpus(patterns, model.config.mel.sample_rate, out.parent / "cache")
    indices, phones = _choose(corpus, settings)
    if settings.recognition.steps:
        model = _recognise(model, corpus, indices, phones, settings, out)
    if rank_and_world()[0] > 0:
        return out / "model"
    weights = _weights(corpus, indices, settings.weights or DEFAULT_WEIGHTS)
    speech = _random_speech(phone_head.phones) if settings.projection_synthetic else None
    projection = Projection(settings.projection_recordings, settings.projection_synthetic, settings.projection_steps)
    fit_projection(model, corpus, dict(zip(indices, weights, strict=True)), phones, speech, projection, out)
    if not (folder / PRONUNCIATION_FILE).is_file():  # texts were known by their tokens, and are by their phones now
        with torch.no_grad():
            for parameter in model.text_projection.parameters():
                parameter.mul_(TOKEN_SHARE)
    save_model(out / "model", model, tokenizer, read_card(folder))
    copy_optional_files(folder, out / "model")
    pronouncer.save(out / "model" / PRONUNCIATION_FILE)
    return out / "model"


def pack_speech(source: str, patterns: Sequence[str], settings: SpeechFitting, path: Path, max_bytes: int) -> int:
    """Write a package of what training phone recognition needs, for a machine with a GPU.

    Args:
        source: Name or folder of the model.
        patterns: As of `fit_speech`.
        settings: Settings.
        path: The tar file.
        max_bytes: Its greatest size.

    Returns:
        The number of recordings in it.

    Raises:
        ConfigError: There is no such model.
        OutputError: The file cannot be written.
    """
    rate = read_config(find_model(source)).mel.sample_rate
    corpus = load_corpus(patterns, rate, path.parent / "cache")
    indices, phones = _choose(corpus, settings)
    weights = _weights(corpus, indices, settings.weights or DEFAULT_WEIGHTS)
    return write_package(source, corpus, indices, weights, phones, path, max_bytes, settings.recognition.seed)


def _learn_rules(settings: SpeechFitting, out: Path) -> Pronouncer:
    rules = dict[str, LanguageRules]()
    for language in settings.languages:
        path = make_folder(out / "languages") / f"{language}.json"
        if not path.is_file():
            learned = learn_language(language, settings.words or DEFAULT_WORDS)
            log.info(
                "%s: %d rules; %.3f edits a phone and %.3f of words right, of %d held out",
                *(language, len(learned.rules.rules), learned.phone_error_rate, learned.word_accuracy),
                learned.held_out_words,
            )
            Pronouncer({language: learned.rules}).save(path)
        rules |= read_pronouncer(path).rules
    return Pronouncer(rules)


def _choose(corpus: Corpus, settings: SpeechFitting) -> tuple[list[int], dict[int, Sequence[int]]]:
    """Return the recordings to train on, and the phones of each that is speech."""
    examples = corpus.examples
    train = split_corpus(corpus, DataConfig(held_out_speakers=settings.held_out), bundled_digits()).train
    train = [
        index
        for index in train
        if not {examples[index].source, f"{examples[index].source}:{examples[index].language}"} & {*settings.excluded}
        and corpus.duration_s(index) >= MIN_AUDIO_S
    ]
    if settings.phones is not None:
        table = read_phones(settings.phones)
        phones = {index: table.get(examples[index].language, {}).get(examples[index].text, ()) for index in train}
    else:
        targets = PhoneTargets([examples[index] for index in train])
        phones = {index: targets.of(examples[index]) for index in train}
    return [index for index in train if phones[index] or examples[index].kind != "speech"], phones


def _weights(corpus: Corpus, indices: Sequence[int], table: Mapping[str, float]) -> list[float]:
    examples = [corpus.examples[index] for index in indices]
    return [next((table[key] for key in (x.kind, x.source, x.language) if key in table), 1.0) for x in examples]


def _recognise(
    model: Clara,
    corpus: Corpus,
    indices: list[int],
    phones: dict[int, Sequence[int]],
    settings: SpeechFitting,
    out: Path,
) -> Clara:
    with first_process_first():
        pooled = cached(out / "pooled.pt", lambda: pooled_targets(model, corpus, indices, MAX_AUDIO_S))
    weights = _weights(corpus, indices, settings.weights or DEFAULT_WEIGHTS)
    wider = widen(model)
    assert wider.config.phone_head is not None
    speech = _random_speech(wider.config.phone_head.phones) if settings.recognition.synthetic_every else None
    batches = PhoneBatches(
        corpus,
        indices,
        weights,
        phones,
        pooled,
        model.config.mel,
        settings.recognition,
        speech,
        max_audio_s=MAX_AUDIO_S,
    )
    fit_phones(wider, batches, settings.recognition, out / "checkpoint.pt", settings.workers, settings.device)
    return wider


def _random_speech(inventory: str) -> RandomSpeech | None:
    """Return synthetic speech, or None, with a warning, where a package for it is missing."""
    try:
        voice_variants()  # starts espeak-ng
        return RandomSpeech(inventory)
    except (MissingDependency, SpeechError) as error:
        log.warning("trains without synthetic speech: %s", error)
        return None


def widen(model: Clara) -> Clara:
    """Return a copy of a model with convolutions between its frame layers and `SLOTS_PER_FRAME`, as far as it has none.

    It recognises what it did: the convolutions start without effect, and new slots as the mean of the others.
    """
    head = model.config.phone_head
    assert head is not None
    config: ClaraConfig = replace(
        model.config,
        audio=replace(model.config.audio, frame_kernel=model.config.audio.frame_kernel or FRAME_KERNEL),
        phone_head=replace(head, slots_per_frame=max(head.slots_per_frame, SLOTS_PER_FRAME)),
    )
    weights, classes = model.state_dict(), len(head.phones) + 1
    for name in ("phone_head.frame_classifier.weight", "phone_head.frame_classifier.bias"):
        slots = weights[name].reshape(head.slots_per_frame, classes, -1)
        added = config.phone_head.slots_per_frame - head.slots_per_frame if config.phone_head else 0
        mean = slots.mean(dim=0, keepdim=True).expand(added, -1, -1)
        weights[name] = torch.cat([slots[:1], mean, slots[1:]]).reshape(-1, *weights[name].shape[1:])
    wider = Clara(config)
    wider.load_state_dict(weights, strict=False)
    return wider
