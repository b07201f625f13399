"""Which recordings are trained on, tuned on and reported: no text, speaker or recording stands on two sides."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from clara_search.text.normalize import normalize_text
from trainer.config.evaluation import DigitSuite
from trainer.config.sections import DataConfig
from trainer.data.corpus import Corpus
from trainer.data.text_split import text_split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """Indices into a corpus, by what they are for; no text of one of the first three stands in another.

    Attributes:
        train: trained on.
        valid: tuned on.
        test: reported: texts that were never trained on, speakers that may have been.
        new_speaker: reported: speakers that were never trained on, nor were their texts.
        digits: reported: recorded digits; their words were trained on with synthetic voices alone.
    """

    train: list[int]
    valid: list[int]
    test: list[int]
    new_speaker: list[int]
    digits: list[int]


def split_corpus(corpus: Corpus, config: DataConfig, suite: DigitSuite | None = None) -> Splits:
    """Put every recording of `corpus` on its side; each side keeps the order of the corpus.

    A source that declares its splits is taken at its word, another is split by a hash of the text. What is to be
    trained on and stands on another side too, by its text or its content, is left out of training, with a warning; and
    so is what is to be tuned on and is reported. (But by its content alone where sounds have declared sides: their
    names are often those of classes.) With a `suite`, recordings of its words are trained on if they come from its
    training source; the labelled ones among the others are its test.
    """
    words = frozenset[str]() if suite is None else suite.all_words
    sides: dict[str, list[int]] = {"train": [], "valid": [], "test": [], "new_speaker": [], "digits": []}
    for index, example in enumerate(corpus.examples):
        if example.split in ("train", "valid", "test"):
            sides[example.split].append(index)
        elif suite is not None and normalize_text(example.text) in words and example.source != suite.train_source:
            if example.label and example.label.startswith("digit:"):
                sides["digits"].append(index)
        elif example.speaker in config.held_out_speakers:
            sides["new_speaker"].append(index)
        else:
            sides[text_split(example.text, words)].append(index)
    trained = _texts(corpus, sides["train"])
    sides["new_speaker"] = [i for i in sides["new_speaker"] if normalize_text(corpus.examples[i].text) not in trained]
    valid, test = sides["valid"], sides["test"]
    held_out = [index for name, side in sides.items() if name != "train" for index in side]
    # Texts of digits do not count: their words are trained on with synthetic voices.
    clean = _apart(corpus, sides["train"], _texts(corpus, [*valid, *test]), held_out, "not trained on")
    sides["train"] = [
        i for i in clean if corpus.examples[i].kind != "speech" or corpus.duration_s(i) <= config.max_audio_s
    ]
    sides["valid"] = _apart(corpus, valid, _texts(corpus, test), test, "not tuned on")
    return Splits(**sides)


def _texts(corpus: Corpus, indices: list[int]) -> set[str]:
    return {normalize_text(corpus.examples[index].text) for index in indices}


def _apart(corpus: Corpus, indices: list[int], texts: set[str], held_out: list[int], then: str) -> list[int]:
    """Return those of `indices` with none of `texts`, nor the content of a recording that is held out."""
    hashes = {corpus.hashes[index] for index in held_out}
    examples = corpus.examples
    alike = [
        i
        for i in indices
        if normalize_text(examples[i].text) in texts and (examples[i].kind == "speech" or not examples[i].split)
    ]
    copies = [i for i in indices if corpus.hashes[i] in hashes]
    for found, what in ((alike, "have a text that is held out"), (copies, "are held out under another name")):
        if found:
            some = ", ".join(examples[index].key for index in found[:3])
            log.warning("%d recordings %s: %s (%s%s)", len(found), what, then, some, ", ..." if len(found) > 3 else "")
    left_out = {*alike, *copies}
    return [index for index in indices if index not in left_out]
