"""Which recordings are trained on, tuned on and reported: no text, speaker or recording stands on two sides."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from clara_search.datasets.digits import DIGIT_WORDS
from clara_search.datasets.split import normalise, text_split
from trainer.corpus import Corpus
from trainer.recipe import DataConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sides:
    """Indices into a corpus, by what they are for; no text of one of the first three stands in another.

    Attributes:
        train: trained on.
        valid: tuned on.
        test: reported: texts that were never trained on, speakers that may have been.
        new_speaker: reported: speakers that were never trained on, nor were their texts.
        digits: reported: recorded digits; the words were trained on with synthetic voices alone.
    """

    train: list[int]
    valid: list[int]
    test: list[int]
    new_speaker: list[int]
    digits: list[int]


def split(corpus: Corpus, config: DataConfig) -> Sides:
    """Put every recording of `corpus` on its side; each side keeps the order of the corpus.

    A source that declares its splits is taken at its word, another is split by a hash of the text. What is to be
    trained on and stands on another side too, by its text or its content, is left out of training.
    """
    sides: dict[str, list[int]] = {"train": [], "valid": [], "test": [], "new_speaker": [], "digits": []}
    for index, example in enumerate(corpus.examples):
        if example.split in ("train", "valid", "test"):
            sides[example.split].append(index)
        elif normalise(example.text) in DIGIT_WORDS and example.source != config.digits_source:
            if example.label and example.label.startswith("digit:"):
                sides["digits"].append(index)
        elif example.speaker in config.held_out_speakers:
            sides["new_speaker"].append(index)
        else:
            sides[text_split(example.text)].append(index)
    trained = {normalise(corpus.examples[index].text) for index in sides["train"]}
    sides["new_speaker"] = [i for i in sides["new_speaker"] if normalise(corpus.examples[i].text) not in trained]
    sides["train"] = _untouched(corpus, sides, config)
    sides["valid"] = _without_copies(corpus, sides["valid"], sides["test"])
    return Sides(**sides)


def _untouched(corpus: Corpus, sides: dict[str, list[int]], config: DataConfig) -> list[int]:
    """Return what is trained on: nothing that is held out, and no speech that is too long."""
    train = sides["train"]
    clean = _without_copies(corpus, train, [i for name, side in sides.items() if name != "train" for i in side])
    if len(clean) < len(train):
        log.warning("%d recordings are held out under another name: not trained on", len(train) - len(clean))
    return [i for i in clean if corpus.examples[i].kind != "speech" or corpus.duration_s(i) <= config.max_audio_s]


def _without_copies(corpus: Corpus, indices: list[int], held_out: list[int]) -> list[int]:
    hashes = {corpus.hashes[index] for index in held_out}
    return [index for index in indices if corpus.hashes[index] not in hashes]
