"""What a trained model can do with recordings, sentences and speakers that it never met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clara_search.classification.prompts import class_embeddings
from clara_search.metrics.accuracy import Accuracy, accuracy
from clara_search.models.base import Encoder
from trainer.config.recipe import Recipe
from trainer.data.corpus import Corpus
from trainer.data.digits import DIGITS
from trainer.data.splits import Splits
from trainer.evaluation.retrieval import Scores, score_pairs
from trainer.evaluation.suites import EmbeddedCorpus, SuiteScores, embed_corpus, score_suites


@dataclass(frozen=True)
class EvaluationReport:
    """All scores of a model: retrieval by queries and gallery, digits by language ("all" is all of them), abilities."""

    retrieval: Scores
    digits: dict[str, Accuracy]
    abilities: SuiteScores

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as JSON takes them."""
        return {
            "retrieval": {
                name: {way: scores.as_dict() for way, scores in ways.items()} for name, ways in self.retrieval.items()
            },
            "digits": {name: score.as_dict() for name, score in self.digits.items()},
            "abilities": self.abilities.as_dict(),
        }


def evaluate(encoder: Encoder, corpus: Corpus, sides: Splits, recipe: Recipe) -> EvaluationReport:
    """Score `encoder` on the test, new-speaker and digit sides of `corpus`; recordings are cut as in training.

    What a side has no recordings for has no score.
    """
    mel, longest_s = recipe.model.mel, recipe.data.max_audio_s
    test, new, digits = (
        embed_corpus(encoder, corpus, side, mel, longest_s) for side in (sides.test, sides.new_speaker, sides.digits)
    )
    found = score_pairs(encoder, test.examples, test.vectors) if test.examples else {}
    if new.examples:
        found["new speakers"] = score_pairs(encoder, new.examples, new.vectors)["all"]
    return EvaluationReport(found, _digits(encoder, digits), score_suites(encoder, test, new))


def _digits(encoder: Encoder, spoken: EmbeddedCorpus) -> dict[str, Accuracy]:
    """Name each recorded digit by the nearest of the ten words of its language."""
    scores: dict[str, Accuracy] = {}
    all_named: list[str] = []
    all_labels: list[str] = []
    for language, words in DIGITS.items():
        some = spoken.of([row for row, example in enumerate(spoken.examples) if example.language == language])
        if not some.examples:
            continue
        nearest = some.vectors @ class_embeddings(encoder, words).T
        named = [f"digit:{digit}" for digit in nearest.argmax(axis=1)]
        labels = [str(example.label) for example in some.examples]
        scores[language] = accuracy(named, labels, len(words))
        all_named += named
        all_labels += labels
    if all_labels:
        scores["all"] = accuracy(all_named, all_labels, 10)
    return scores
