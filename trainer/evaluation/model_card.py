"""The model card: the author's text beside the recipe, followed by the data and the measured scores."""

from __future__ import annotations

from collections import Counter, defaultdict

from clara_search.metrics.accuracy import Accuracy
from clara_search.metrics.intervals import Interval
from clara_search.metrics.retrieval import RetrievalScores
from trainer.config.recipe import RECIPES, Recipe
from trainer.data.corpus import Corpus
from trainer.data.splits import Splits
from trainer.evaluation.report import EvaluationReport


def model_card(recipe: Recipe, corpus: Corpus, splits: Splits, report: EvaluationReport, parameters: int) -> str:
    """Return the card of a trained model as Markdown, with the front matter that the Hugging Face hub reads.

    Args:
        recipe: of the run; the author's text is `recipes/NAME.md`, if that file exists.
        corpus: all recordings.
        splits: which of them were trained on and which were held out.
        report: the scores.
        parameters: number of the model's parameters.

    Returns:
        The text of README.md.
    """
    path = RECIPES / f"{recipe.name}.md"
    author_text = path.read_text(encoding="utf-8").strip() if path.is_file() else f"# {recipe.name}"
    tables = [
        *([_retrieval(report)] if report.retrieval else ["No recordings were held out for scores."]),
        *([_digits(report)] if report.digits else []),
        *([_suites(report)] if report.retrieval else []),
    ]
    scores = [_sizes(recipe, corpus, splits, parameters), *tables]
    parts = [
        _front_matter(corpus, splits),
        author_text,
        "## Scores",
        *scores,
        "## Recordings",
        _sources(corpus, splits),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(corpus: Corpus, splits: Splits) -> str:
    languages = sorted({corpus.examples[index].language for index in splits.train} - {"zxx", "und"})
    listed = "\n".join(f"- {language}" for language in languages)
    sources = sorted({corpus.examples[index].source for index in splits.train} - {""})
    source_list = "training_sources:\n" + "".join(f"- {source}\n" for source in sources) if sources else ""
    return (
        "---\nlicense: apache-2.0\nlibrary_name: clara-search\npipeline_tag: feature-extraction\n"
        f"tags:\n- audio\n- retrieval\n- CLARA\nlanguage:\n{listed}\n{source_list}---"
    )


def _sizes(recipe: Recipe, corpus: Corpus, splits: Splits, parameters: int) -> str:
    hours = sum(corpus.duration_s(index) for index in splits.train) / 3600
    speakers = ", ".join(recipe.data.held_out_speakers)
    other_splits = [f"{len(splits.digits)} recorded digits"] if splits.digits else []
    if speakers:
        new = f"{len(splits.new_speaker)} of speakers that were never trained on ({speakers})"
        other_splits.insert(0, f"{new}, with texts that were not either")
    return (
        f"{parameters / 1e6:.2f} M parameters, {recipe.model.dim} dimensions, {recipe.model.mel.sample_rate} Hz. "
        f"Trained on {len(splits.train):,} recordings ({hours:.1f} h). Held out: "
        f"{len(splits.valid):,} recordings to choose the epoch by, {len(splits.test):,} for the scores below, all with "
        f"texts (normalised, by hash) that were never trained on{''.join(f'; {split}' for split in other_splits)}. "
        f"Brackets: 95 % bootstrap interval{' (digits: Wilson)' if splits.digits else ''}. "
        "Chance is the expectation of a random order."
    )


def _retrieval(report: EvaluationReport) -> str:
    lines = [
        'Retrieval by texts that were never trained on. "speech in all" asks for speech among all held-out recordings, '
        '"speech" among those of speech alone. A text is asked for once; all recordings of it are right.',
        "",
        "| recordings | way | queries | gallery | R@1 | R@5 | R@10 | chance R@10 | mAP@10 | median rank |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, directions in report.retrieval.items():
        lines += [
            f"| {name} | {direction.replace('_', ' ')} | {_scores(scores)} |"
            for direction, scores in directions.items()
        ]
    return "\n".join(lines)


def _scores(scores: RetrievalScores) -> str:
    low, high = scores.recall_interval[10]
    return " | ".join(
        [
            str(scores.n_queries),
            str(scores.n_gallery),
            f"{scores.recall[1]:.3f}",
            f"{scores.recall[5]:.3f}",
            f"{scores.recall[10]:.3f} [{low:.3f}, {high:.3f}]",
            f"{scores.chance_recall[10]:.4f}",
            f"{scores.map10:.3f}",
            f"{scores.median_rank:.0f}",
        ]
    )


def _digits(report: EvaluationReport) -> str:
    def row(language: str, score: Accuracy) -> str:
        low, high = score.interval
        return f"| {language} | {score.n} | {score.accuracy:.2f} [{low:.2f}, {high:.2f}] | {score.chance:.2f} |"

    return "\n".join(
        [
            "Recorded digits 0 to 9, named by the nearest of the ten words of their language:",
            "",
            "| language | recordings | accuracy | chance |",
            "|---|---|---|---|",
            *(row(language, score) for language, score in report.digits.items()),
        ]
    )


def _suites(report: EvaluationReport) -> str:
    """Return the scores of the suites, each with the number of its queries, the size of its gallery and chance."""
    suites = report.suites
    rows = [
        *(
            (f"speech, {speakers} speakers, text to audio, {measure}", scores, *_recall(scores, k))
            for speakers, scores in suites.retrieval_1000.items()
            for measure, k in (("R@1", 1), ("R@10", 10))
        ),
        *(
            (f"sounds by their name in {language}, R@10", scores, *_recall(scores, 10))
            for language, scores in suites.languages.items()
        ),
        *(
            (f"similar recordings ({shared}), mAP@10, {vectors}", x, x.map10, x.map10_interval, x.chance_map10)
            for shared, similarity in suites.audio_similarity.items()
            for vectors, x in (("this model", similarity.model), ("log-mel statistics", similarity.log_mel))
        ),
    ]
    lines = ["| task | queries | gallery | score | chance |", "|---|---|---|---|---|"]
    lines += [
        f"| {task} | {scores.n_queries} | {scores.n_gallery} | {value:.3f} [{low:.3f}, {high:.3f}] | {chance:.4f} |"
        for task, scores, value, (low, high), chance in rows
    ]
    if suites.classes is not None:
        score, (low, high) = suites.classes.accuracy, suites.classes.accuracy.interval
        recall = sum(suites.classes.recall.values()) / len(suites.classes.recall)
        lines.append(
            f"| {suites.classes.title} named by prompts ({score.n_classes} classes; {recall:.2f} averaged over "
            f"them) | {score.n} | - | {score.accuracy:.3f} [{low:.3f}, {high:.3f}] | {score.chance:.4f} |"
        )
    return "\n".join(lines)


def _recall(scores: RetrievalScores, k: int) -> tuple[float, Interval, float]:
    return scores.recall[k], scores.recall_interval[k], scores.chance_recall[k]


def _sources(corpus: Corpus, splits: Splits) -> str:
    counts = Counter(corpus.examples[index].source for index in splits.train)
    licences: defaultdict[str, set[str]] = defaultdict(set)
    for index in splits.train:
        licences[corpus.examples[index].source].add(corpus.examples[index].licence)
    rows = [f"| {source} | {count} | {'; '.join(sorted(licences[source]))} |" for source, count in counts.most_common()]
    return "\n".join(["| source | recordings trained on | licence |", "|---|---|---|", *rows])
