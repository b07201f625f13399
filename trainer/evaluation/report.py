"""The evaluation of a trained model on recordings, texts and speakers that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clara_search.classification.prompts import class_embeddings
from clara_search.metrics.accuracy import Accuracy, accuracy
from clara_search.models.base import Encoder
from trainer.config.evaluation import DigitSuite, load_evaluation
from trainer.config.recipe import Recipe
from trainer.data.corpus import Corpus
from trainer.data.splits import Splits
from trainer.evaluation.retrieval import Scores, score_pairs
from trainer.evaluation.suites import EmbeddedCorpus, SuiteScores, embed_corpus, score_suites


@dataclass(frozen=True)
class EvaluationReport:
    """All scores of a model.

    Attributes:
        retrieval: by queries and gallery, then by direction.
        digits: accuracy of the digit suite by language, and "all".
        suites: scores of the other suites.
    """

    retrieval: Scores
    digits: dict[str, Accuracy]
    suites: SuiteScores

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as JSON takes them."""
        return {
            "retrieval": {
                name: {direction: scores.as_dict() for direction, scores in directions.items()}
                for name, directions in self.retrieval.items()
            },
            "digits": {language: score.as_dict() for language, score in self.digits.items()},
            "suites": self.suites.as_dict(),
        }


def evaluate(encoder: Encoder, corpus: Corpus, splits: Splits, recipe: Recipe) -> EvaluationReport:
    """Score an encoder on held-out recordings, cut as in training.

    Args:
        encoder: the trained model.
        corpus: all recordings.
        splits: "test", "new_speaker" and "digits" are scored; an empty split has no scores.
        recipe: names the evaluation suites.

    Returns:
        All scores.

    Raises:
        SourceError, FormatError, ConfigError: the recipe's evaluation file cannot be used.
    """
    config, mel, max_audio_s = load_evaluation(recipe.evaluation), recipe.model.mel, recipe.data.max_audio_s
    test, new, digits = (
        embed_corpus(encoder, corpus, indices, mel, max_audio_s)
        for indices in (splits.test, splits.new_speaker, splits.digits)
    )
    retrieval = score_pairs(encoder, test.examples, test.vectors, test.hashes) if test.examples else {}
    if new.examples:
        retrieval["new speakers"] = score_pairs(encoder, new.examples, new.vectors, new.hashes)["all"]
    return EvaluationReport(
        retrieval,
        {} if config.digits is None else score_digits(encoder, digits, config.digits),
        score_suites(encoder, test, new, config),
    )


def score_digits(encoder: Encoder, recordings: EmbeddedCorpus, suite: DigitSuite) -> dict[str, Accuracy]:
    """Classify recorded digits by the nearest of the ten words of their language.

    Args:
        encoder: gives the vectors of the words.
        recordings: recorded digits with labels "digit:0" to "digit:9".
        suite: the words.

    Returns:
        Accuracy by language, and of "all"; a language without recordings is missing.
    """
    scores: dict[str, Accuracy] = {}
    all_predicted: list[str] = []
    all_expected: list[str] = []
    for language, words in suite.words.items():
        rows = [row for row, example in enumerate(recordings.examples) if example.language == language]
        if not rows:
            continue
        spoken = recordings.subset(rows)
        nearest = (spoken.vectors @ class_embeddings(encoder, words).T).argmax(axis=1)
        predicted = [f"digit:{digit}" for digit in nearest]
        expected = [str(example.label) for example in spoken.examples]
        scores[language] = accuracy(predicted, expected, len(words))
        all_predicted += predicted
        all_expected += expected
    if all_expected:
        scores["all"] = accuracy(all_predicted, all_expected, 10)
    return scores
