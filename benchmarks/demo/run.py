"""The demo: download a small corpus, index it, search it by text and by sound, classify it, and score the results."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from benchmarks.demo.corpus import NO_SPEECH, prepare
from clara_search.commands.common import Align, print_hits, print_table
from clara_search.commands.output import echo_line
from clara_search.errors import ClaraError, EncoderMismatch, SourceError
from clara_search.models.registry import DEFAULT_MODEL, load_encoder
from clara_search.retrieval.output.text import format_span, short_name
from indexer.ledger.failures import failures

if TYPE_CHECKING:
    from benchmarks.demo.corpus import Corpus, Recording
    from clara_search.metrics.retrieval import RetrievalScores
    from clara_search.models.base import Encoder
    from clara_search.retrieval.index import Index
    from indexer.pipeline import IndexResult

FOLDER = Path("demo-data")
HITS = 5
RECALL_AT = (1, 5, 10)


class Query(NamedTuple):
    """A text to search for, its language, and the source that it belongs to ("": any), which need not have it."""

    text: str
    language: str
    source: str = ""


QUERIES = (
    Query("a dog barks", "en", source="opensfx"),
    Query("rain", "en", source="opensfx"),
    Query("a door slams", "en", source="opensfx"),
    Query("explosion", "en", source="opensfx"),
    Query("ein Schiffshorn", "de", source="opensfx"),
    Query("a jet plane takes off", "en", source="opensfx"),
    Query("please hold while I connect your call", "en", source="asterisk"),
    Query("siete", "es", source="espeak"),
    Query("otto", "it", source="espeak"),
)
OWN_QUERIES = (Query("a person talking", "en"), Query("music", "en"), Query("an engine running", "en"))
AUDIO_QUERIES = ("effects/28-old-bus-start.wav", "wav/en-10-")
"""Prefixes of paths; the first recording with one of them is the query."""

OWN_LABELS = ("speech", "music", "sound effect")


@click.command()
@click.option(
    "--audio",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Your own recordings, instead of the corpus.",
)
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name or folder of the model.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER,
    show_default=True,
    help="Keeps corpus and index.",
)
def demo(audio: Path | None, model: str, folder: Path) -> None:
    """Index, search and classify a small corpus or your recordings."""
    started = time.perf_counter()
    try:
        encoder = load_encoder(model)
        if audio is None:
            demo_on_corpus(folder, encoder)
        else:
            demo_on_own(audio, folder, encoder)
    except ClaraError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"\nDone in {time.perf_counter() - started:.0f} s.")


def demo_on_corpus(folder: Path, encoder: Encoder) -> None:
    """Run every step on the demo corpus in `folder`."""
    heading("1. Get the corpus")
    corpora = prepare(folder, click.echo)
    for corpus in corpora:
        size = f"{len(corpus.recordings)} recordings, {minutes(corpus):.1f} minutes"
        click.echo(f"{size}: {corpus.origin} ({corpus.folder})")
    heading("2. Build the index")
    database = folder / "database"
    index = build_index([corpus.manifest for corpus in corpora], database, encoder)
    sources = {recording.source for corpus in corpora for recording in corpus.recordings}
    heading("3. Search by text")
    search_texts(index, [query for query in QUERIES if query.source in sources])
    heading("4. Search by sound")
    search_audio(index, audio_query(corpora))
    heading("5. Zero-shot classification of spoken digits")
    classify_digits(index, corpora)
    heading("6. Recall for texts that the model was never trained on")
    score_unseen_texts(index)
    heading("Try it yourself")
    query = "an engine starts" if "opensfx" in sources else "good night"
    click.echo(f'.venv/bin/clara-search search "{query}" --db {shlex.quote(str(database))}')
    click.echo("make demo AUDIO=folder-of-your-own-recordings")


def demo_on_own(audio: Path, folder: Path, encoder: Encoder) -> None:
    """Index the recordings below `audio` into a database in `folder`; search and classify them."""
    from indexer.sources.listing import list_items

    digest = hashlib.sha256(str(audio.resolve()).encode()).hexdigest()[:6]
    database = folder / f"database-{audio.resolve().name}-{digest}"
    heading(f"1. Build the index of {audio}")
    index = build_index([audio], database, encoder)
    if not index.table.count():
        raise SourceError(f"{audio}: no recording could be indexed")
    heading("2. Search by text")
    search_texts(index, OWN_QUERIES)
    heading("3. Search by sound")
    indexed = {row["uri"] for row in index.table.scan(["uri"]).to_pylist()}
    search_audio(index, next(Path(item.uri) for item in list_items([audio]) if item.uri in indexed))
    heading("4. Zero-shot classification")
    classify_own(index)
    heading("Try it yourself")
    click.echo(f'.venv/bin/clara-search search "rain on a roof" --db {shlex.quote(str(database))}')


def build_index(sources: Sequence[Path], folder: Path, encoder: Encoder) -> Index:
    """Index `sources` into the database in `folder` and open it; rebuild it if the model has changed."""
    from clara_search.retrieval.index import open as open_index

    try:
        summary = run_indexer(sources, folder, encoder)
    except EncoderMismatch:
        click.echo("The model has changed since the last run: the index is rebuilt.")
        shutil.rmtree(folder)
        summary = run_indexer(sources, folder, encoder)
    click.echo(
        f"{summary.indexed} indexed, {summary.unchanged} unchanged, {summary.failed} failed with {encoder.name} "
        f"in {summary.seconds:.1f} s; the index has {summary.rows} rows"
    )
    index = open_index(folder, encoder=encoder)
    for failure in failures(index.table.connection)[:HITS]:
        echo_line(f"  {failure['uri']}: {failure['reason']}")
    return index


def run_indexer(sources: Sequence[Path], folder: Path, encoder: Encoder) -> IndexResult:
    """Index `sources` into the database in `folder`, with a progress bar on a terminal."""
    from tqdm import tqdm

    from clara_search.store.database import Database
    from indexer import pipeline
    from indexer.sources.listing import survey_sources

    surveyed = survey_sources(sources)
    with tqdm(total=surveyed.items, disable=None, leave=False, unit=" recordings") as bar:
        return pipeline.index(
            sources,
            Database(folder, create=True),
            encoder,
            survey=surveyed,
            progress=lambda item, status: bar.update(),
        )


def search_texts(index: Index, queries: Iterable[Query]) -> None:
    """Print the best hits of each query."""
    for query in queries:
        hits = index.search(query.text, k=HITS, language=query.language, modality="audio")
        click.echo("\n".join((f'\n"{query.text}" ({query.language})', *hits.notes)))
        print_hits(hits)


def audio_query(corpora: Sequence[Corpus]) -> Path:
    """Return the recording to search by: the first one that matches AUDIO_QUERIES."""
    for prefix in AUDIO_QUERIES:
        for corpus in corpora:
            for recording in corpus.recordings:
                if recording.path.startswith(prefix):
                    return corpus.folder / recording.path
    return corpora[0].folder / corpora[0].recordings[0].path


def search_audio(index: Index, recording: Path) -> None:
    """Print the recordings that are most similar to `recording`, without itself."""
    from clara_search.store.filters import sql_string

    click.echo(f"\nrecordings similar to {recording.name}")
    others = f"uri <> {sql_string(str(recording.absolute()))}"
    print_hits(index.search(audio=recording, k=HITS, where=others, modality="audio"))


def classify_digits(index: Index, corpora: Sequence[Corpus]) -> None:
    """Print the accuracy of classifying spoken digits by their nearest digit word, for each voice and language."""
    from clara_search.metrics.accuracy import accuracy

    digits: dict[tuple[str, str], dict[str, Recording]] = defaultdict(dict)
    for corpus in corpora:
        for recording in corpus.recordings:
            if recording.label.startswith("digit:"):
                uri = str((corpus.folder / recording.path).absolute())
                digits[recording.source, recording.language][uri] = recording
    rows = []
    for (source, language), expected in digits.items():
        words = list(dict.fromkeys(r.text for r in sorted(expected.values(), key=lambda r: r.label)))
        where = f"language = '{language}' AND source = '{source}' AND label LIKE 'digit:%'"
        results = list(index.classify(words, where=where, language=language))
        score = accuracy(
            [str(result.label) for result in results], [expected[result.uri].text for result in results], len(words)
        )
        rows.append(
            (source, language, str(score.n), f"{score.accuracy:.2f}", interval(score.interval), f"{score.chance:.2f}")
        )
    click.echo("asterisk: a speaker whose digits the model was not trained on; espeak: synthetic voices, likewise.")
    columns: dict[str, Align] = {"voice": "left", "language": "left", "clips": "right", "accuracy": "right"}
    print_table({**columns, "95 % interval": "right", "chance": "right"}, rows)


def classify_own(index: Index, limit: int = 10) -> None:
    """Print the nearest of OWN_LABELS for the first windows of the index."""
    from itertools import islice

    columns: dict[str, Align] = {"file": "left", "time": "left", "label": "left", "score": "right"}
    results = islice(index.classify(OWN_LABELS, ("{}", "the sound of {}")), limit)
    print_table(
        columns,
        [(short_name(x.uri), format_span(x.start_s, x.end_s), str(x.label), f"{x.score:.3f}") for x in results],
    )


def score_unseen_texts(index: Index) -> None:
    """Print recall@k of the unseen texts of each source, among all windows of unseen texts, and chance."""
    names = ("texts of", "texts", "windows", "k", "recall@k", "95 % interval", "chance")
    rows = []
    for source, scores in unseen_retrieval(index).items():
        for k in scores.recall:
            group = (source, str(scores.n_queries), str(scores.n_gallery)) if k == RECALL_AT[0] else ("", "", "")
            bounds = interval(scores.recall_interval[k])
            rows.append((*group, str(k), f"{scores.recall[k]:.2f}", bounds, f"{scores.chance_recall[k]:.2f}"))
    click.echo("The model may know the speakers and instruments, but not these sentences and captions.")
    columns: dict[str, Align] = {name: "left" if name == "texts of" else "right" for name in names}
    print_table(columns, rows)


def unseen_retrieval(index: Index) -> dict[str, RetrievalScores]:
    """Return the text-to-audio scores of unseen texts by their source, among all windows of unseen texts."""
    import numpy as np

    from clara_search.metrics.retrieval import score_retrieval
    from clara_search.text.normalize import normalize_text
    from trainer.config.evaluation import bundled_digits
    from trainer.data.text_split import text_split
    from trainer.evaluation.retrieval import embed_texts

    ids, vectors = index.table.ids_and_vectors()
    rows = index.table.rows(ids.tolist(), ["text", "language", "source"])
    train_texts = bundled_digits().all_words
    unseen = [position for position, row in enumerate(rows) if text_split(row["text"], train_texts) != "train"]
    groups = [f"{rows[position]['language']} {normalize_text(rows[position]['text'])}" for position in unseen]
    texts = {group: rows[position] for group, position in zip(groups, unseen, strict=True)}
    query_texts, languages = [row["text"] for row in texts.values()], [text_language(row) for row in texts.values()]
    queries = dict(zip(texts, embed_texts(index.encoder, query_texts, languages), strict=True))
    scores = {}
    for source in sorted({rows[position]["source"] for position in unseen}):
        queried = sorted({g for g, position in zip(groups, unseen, strict=True) if rows[position]["source"] == source})
        scores[source] = score_retrieval(
            np.stack([queries[g] for g in queried]), vectors[unseen], queried, groups, RECALL_AT
        )
    return scores


def text_language(row: dict[str, Any]) -> str:
    """Return the language of a row's text: captions of sounds are English."""
    return "en" if row["language"] == NO_SPEECH else str(row["language"])


def heading(text: str) -> None:
    """Print the title of a step."""
    click.secho(f"\n{text}", bold=True)


def interval(bounds: tuple[float, float]) -> str:
    """Return a confidence interval as "0.41-0.58"."""
    return f"{bounds[0]:.2f}-{bounds[1]:.2f}"


def minutes(corpus: Corpus) -> float:
    """Return the total duration of a corpus in minutes, from the headers of its files."""
    import soundfile

    return float(sum(soundfile.info(corpus.folder / recording.path).duration for recording in corpus.recordings)) / 60
