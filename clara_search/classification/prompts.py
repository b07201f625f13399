"""Labels x templates -> one embedding a label, for naming clips without training."""

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
    """Return one unit vector a label, shape (labels, dim).

    Each label is put into each template; the embeddings of the sentences, as they leave the projection with unit
    norm, are averaged and renormalised. Raises QueryError for no or empty labels, one label twice, no templates, or a
    template without {}.
    """
    check_labels(labels)
    if not templates:
        raise QueryError("no templates to put the labels into")
    for template in templates:
        if "{}" not in template:
            raise QueryError(f"template {template!r} has no {{}} where the label goes")
    sentences = [template.replace("{}", label) for label in labels for template in templates]
    embeddings = encoder.encode_text(sentences, language)
    return mean_embedding(embeddings.reshape(len(labels), len(templates), -1))


def check_labels(labels: Sequence[str]) -> None:
    """Raise QueryError unless `labels` are at least one, all different and none empty."""
    if not labels:
        raise QueryError("no labels to choose from")
    if not all(label.strip() for label in labels):
        raise QueryError("a label is empty")
    seen: set[str] = set()
    for label in labels:
        if label in seen:
            raise QueryError(f"label {label!r} is given twice")
        seen.add(label)
