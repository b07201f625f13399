"""The splits of a corpus: no text, speaker or recording is in two of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from clara_search.datasets.example import Example
from clara_search.text.normalize import normalize_text
from trainer.config.evaluation import DigitSuite
from trainer.config.sections import DataConfig
from trainer.data.corpus import Corpus
from trainer.data.text_split import text_splits, texts_of

log = logging.getLogger(__name__)

_DECLARED = ("train", "valid", "test")


@dataclass(frozen=True)
class Splits:
    """Indices into a corpus; no text of one of the first three splits is in another.

    Attributes:
        train: trained on.
        valid: validated on, to choose the epoch.
        test: scored: texts that were never trained on, by speakers that may have been.
        new_speaker: scored: speakers that were never trained on, with texts that were not either.
        digits: scored: recorded digits; their words were trained on with synthetic voices alone.
    """

    train: list[int]
    valid: list[int]
    test: list[int]
    new_speaker: list[int]
    digits: list[int]


def split_corpus(corpus: Corpus, config: DataConfig, suite: DigitSuite | None = None) -> Splits:
    """Assign the recordings of a corpus to splits; each split keeps the order of the corpus.

    Splits that a source declares are kept; other sources are split by a hash of the text: recordings that share a
    caption, directly or through others, are split by the first of all their captions in alphabetical order. A recording
    is removed from training, with a warning, if one of its texts or its content is in another split, and from
    validation if either is in the test split. (Sounds with one text and a declared split are compared by content alone:
    their names are often those of classes.)

    Args:
        corpus: all recordings.
        config: held-out speakers and the longest speech to train on.
        suite: digits, trained on if they come from the suite's training source; labelled ones of other sources are its
            test, others are left out.
    """
    words = frozenset[str]() if suite is None else suite.all_words
    splits: dict[str, list[int]] = {"train": [], "valid": [], "test": [], "new_speaker": [], "digits": []}
    undeclared = [index for index, example in enumerate(corpus.examples) if example.split not in _DECLARED]
    by_text = dict(zip(undeclared, text_splits([texts_of(corpus.examples[i]) for i in undeclared], words), strict=True))
    for index, example in enumerate(corpus.examples):
        if example.split in _DECLARED:
            splits[example.split].append(index)
        elif suite is not None and normalize_text(example.text) in words and example.source != suite.train_source:
            if example.label and example.label.startswith("digit:"):
                splits["digits"].append(index)
        elif example.speaker in config.held_out_speakers:
            splits["new_speaker"].append(index)
        else:
            splits[by_text[index]].append(index)
    train_texts, new_speaker = _texts(corpus, splits["train"]), splits["new_speaker"]
    splits["new_speaker"] = [i for i in new_speaker if train_texts.isdisjoint(texts_of(corpus.examples[i]))]
    valid, test = splits["valid"], splits["test"]
    held_out = [index for name, indices in splits.items() if name != "train" for index in indices]
    # The texts of digits are no leak: their words are trained on with synthetic voices.
    clean = _without_leaks(corpus, splits["train"], _texts(corpus, [*valid, *test]), held_out, "train")
    splits["train"] = [
        i for i in clean if corpus.examples[i].kind != "speech" or corpus.duration_s(i) <= config.max_audio_s
    ]
    splits["valid"] = _without_leaks(corpus, valid, _texts(corpus, test), test, "valid")
    return Splits(**splits)


def _texts(corpus: Corpus, indices: list[int]) -> set[str]:
    return {text for index in indices for text in texts_of(corpus.examples[index])}


def _without_leaks(corpus: Corpus, indices: list[int], texts: set[str], held_out: list[int], split: str) -> list[int]:
    """Return `indices` without recordings that have a text of `texts` or the content of a `held_out` recording."""
    hashes = {corpus.hashes[index] for index in held_out}
    examples = corpus.examples
    captions = _texts(corpus, [index for index in held_out if examples[index].alternatives])

    def is_same_text(example: Example) -> bool:
        own, is_class_name = texts_of(example), example.kind != "speech" and example.split and not example.alternatives
        return not own.isdisjoint(captions if is_class_name else texts)

    same_text = [index for index in indices if is_same_text(examples[index])]
    copies = [i for i in indices if corpus.hashes[i] in hashes]
    for leaks, reason in ((same_text, "their texts are held out"), (copies, "they are held out under another name")):
        if leaks:
            keys = ", ".join(examples[index].key for index in leaks[:3]) + (", ..." if len(leaks) > 3 else "")
            log.warning("%d recordings removed from %s, %s: %s", len(leaks), split, reason, keys)
    removed = {*same_text, *copies}
    return [index for index in indices if index not in removed]
