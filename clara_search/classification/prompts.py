"""Class embeddings for zero-shot classification: labels in templates, embedded and averaged."""

from __future__ import annotations

from collections.abc import Sequence

from clara_search.errors import QueryError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.windows import mean_embedding

DEFAULT_TEMPLATES = ("{}",)


def class_embeddings(
    encoder: Encoder,
    labels: Sequence[str],
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    language: str | None = None,
) -> Embeddings:
    """Embed each label in each template; average and renormalise the embeddings of each label.

    Args:
        encoder: The encoder.
        labels: The labels, all different.
        templates: Sentences with "{}" for the label.
        language: Language of the sentences, such as "en", for encoders that know languages.

    Returns:
        A unit vector for each label, shape (labels, dim).

    Raises:
        QueryError: No labels, an empty or a repeated one, no templates, or a template without {}.
    """
    check_labels(labels)
    if isinstance(templates, str):
        raise QueryError(f"templates are a list of texts, got the one text {templates!r}")
    if not templates:
        raise QueryError("no templates to put the labels into")
    for template in templates:
        if "{}" not in template:
            raise QueryError(f"template {template!r} has no {{}} where the label goes")
    sentences = [template.replace("{}", label) for label in labels for template in templates]
    embeddings = encoder.encode_text(sentences, language)
    return mean_embedding(embeddings.reshape(len(labels), len(templates), -1))


def check_labels(labels: Sequence[str]) -> None:
    """Check labels to choose from.

    Args:
        labels: The labels.

    Raises:
        QueryError: There are none, they are one text, or one is no text, empty or given twice.
    """
    if isinstance(labels, str):
        raise QueryError(f"labels are a list of texts, got the one text {labels!r}")
    if not all(isinstance(label, str) for label in labels):
        raise QueryError("a label is not a text")
    if not labels:
        raise QueryError("no labels to choose from")
    if not all(label.strip() for label in labels):
        raise QueryError("a label is empty")
    seen: set[str] = set()
    for label in labels:
        if label in seen:
            raise QueryError(f"label {label!r} is given twice")
        seen.add(label)
