"""The model card: what the author wrote beside the recipe, and below it the data and the scores, as measured."""

from __future__ import annotations

from collections import Counter, defaultdict

from clara_search.metrics.accuracy import Accuracy
from clara_search.metrics.intervals import Interval
from clara_search.metrics.retrieval import RetrievalScores
from trainer.config.recipe import RECIPES, Recipe
from trainer.data.corpus import Corpus
from trainer.data.splits import Splits
from trainer.evaluation.report import EvaluationReport


def model_card(recipe: Recipe, corpus: Corpus, sides: Splits, report: EvaluationReport, parameters: int) -> str:
    """Return the card as Markdown with the front matter that the Hugging Face hub reads.

    The author's part is `recipes/NAME.md`, where there is one.
    """
    path = RECIPES / f"{recipe.name}.md"
    written = path.read_text(encoding="utf-8").strip() if path.is_file() else f"# {recipe.name}"
    tables = [
        *([_retrieval(report)] if report.retrieval else ["No recordings were held out for scores."]),
        *([_digits(report)] if report.digits else []),
        *([_abilities(report)] if report.retrieval else []),
    ]
    scores = [_sizes(recipe, corpus, sides, parameters), *tables]
    parts = [_front_matter(corpus, sides), written, "## Scores", *scores, "## Recordings", _sources(corpus, sides)]
    return "\n\n".join(parts) + "\n"


def _front_matter(corpus: Corpus, sides: Splits) -> str:
    languages = sorted({corpus.examples[index].language for index in sides.train} - {"zxx", "und"})
    listed = "\n".join(f"- {language}" for language in languages)
    sources = sorted({corpus.examples[index].source for index in sides.train} - {""})
    trained = "training_sources:\n" + "".join(f"- {source}\n" for source in sources) if sources else ""
    return (
        "---\nlicense: apache-2.0\nlibrary_name: clara-search\npipeline_tag: feature-extraction\n"
        f"tags:\n- audio\n- retrieval\n- CLARA\nlanguage:\n{listed}\n{trained}---"
    )


def _sizes(recipe: Recipe, corpus: Corpus, sides: Splits, parameters: int) -> str:
    hours = sum(corpus.duration_s(index) for index in sides.train) / 3600
    speakers = ", ".join(recipe.data.held_out_speakers)
    others = [
        f"{len(sides.new_speaker)} of speakers that were never trained on ({speakers}), with texts that were not either"
        if speakers
        else "",
        f"{len(sides.digits)} recorded digits" if sides.digits else "",
    ]
    return (
        f"{parameters / 1e6:.2f} M parameters, {recipe.model.dim} dimensions, {recipe.model.mel.sample_rate} Hz. "
        f"Trained on {len(sides.train):,} recordings ({hours:.1f} h). Held out: "
        f"{len(sides.valid):,} recordings to choose the epoch by, {len(sides.test):,} for the scores below, all with "
        f"texts (normalised, by hash) that were never trained on{''.join(f'; {other}' for other in others if other)}. "
        f"Brackets: 95 % bootstrap interval{' (digits: Wilson)' if sides.digits else ''}. "
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
    for name, ways in report.retrieval.items():
        lines += [f"| {name} | {way.replace('_', ' ')} | {_scores(scores)} |" for way, scores in ways.items()]
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


def _abilities(report: EvaluationReport) -> str:
    """Return the other scores, each with the number of its queries, the size of its gallery and chance."""
    found = report.abilities
    rows = [
        *(
            (f"speech, {who} speakers, text to audio, {measure}", one, *_at(one, k))
            for who, one in found.thousand.items()
            for measure, k in (("R@1", 1), ("R@10", 10))
        ),
        *(
            (f"sounds by their name in {language}, R@10", one, *_at(one, 10))
            for language, one in found.languages.items()
        ),
        *(
            (f"recordings alike ({what}), mAP@10, {whose}", one, one.map10, one.map10_interval, one.chance_map10)
            for what, both in found.alike.items()
            for whose, one in (("this model", both.model), ("log-mel statistics", both.log_mel))
        ),
    ]
    lines = ["| asked for | queries | gallery | score | chance |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {one.n_queries} | {one.n_gallery} | {value:.3f} [{low:.3f}, {high:.3f}] | {chance:.4f} |"
        for name, one, value, (low, high), chance in rows
    ]
    if found.classes is not None:
        named, (low, high) = found.classes, found.classes.interval
        recall = sum(found.class_recall.values()) / len(found.class_recall)
        lines.append(
            f"| animals, vehicles and weather named by prompts ({named.n_classes} classes; {recall:.2f} averaged over "
            f"them) | {named.n} | - | {named.accuracy:.3f} [{low:.3f}, {high:.3f}] | {named.chance:.4f} |"
        )
    return "\n".join(lines)


def _at(scores: RetrievalScores, k: int) -> tuple[float, Interval, float]:
    return scores.recall[k], scores.recall_interval[k], scores.chance_recall[k]


def _sources(corpus: Corpus, sides: Splits) -> str:
    counts = Counter(corpus.examples[index].source for index in sides.train)
    licences: defaultdict[str, set[str]] = defaultdict(set)
    for index in sides.train:
        licences[corpus.examples[index].source].add(corpus.examples[index].licence)
    rows = [f"| {source} | {count} | {'; '.join(sorted(licences[source]))} |" for source, count in counts.most_common()]
    return "\n".join(["| source | recordings trained on | licence |", "|---|---|---|", *rows])
