"""Class embeddings: averaged after the projection, renormalised; bad labels and templates are refused."""

from __future__ import annotations

import numpy as np
import pytest

from clara_search.classification.prompts import class_embeddings
from clara_search.errors import QueryError


def test_a_class_is_the_renormalised_mean_of_its_sentences(encoder):
    labels, templates = ["dog", "rain"], ["the sound of a {}", "{}", "{} and {}"]
    classes = class_embeddings(encoder, labels, templates, language="en")
    for label, embedding in zip(labels, classes, strict=True):
        sentences = [f"the sound of a {label}", label, f"{label} and {label}"]
        mean = np.mean([encoder.encode_text([sentence], "en")[0] for sentence in sentences], axis=0)
        assert embedding == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert np.linalg.norm(classes, axis=1) == pytest.approx([1, 1], abs=1e-6)
    assert classes.dtype == np.float32


def test_braces_in_a_label_are_its_own(encoder):
    classes = class_embeddings(encoder, ["{0}", "{}"])
    assert classes[0] == pytest.approx(encoder.encode_text(["{0}"])[0])


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        ([], ["{}"], "no labels"),
        (["dog", " "], ["{}"], "empty"),
        (["dog", "cat", "dog"], ["{}"], "'dog' is given twice"),
        ("dog,cat", ["{}"], "list of texts"),
        (["dog", 3], ["{}"], "not a text"),
        (["dog"], "a {}", "templates are a list"),
        (["dog"], [], "no templates"),
        (["dog"], ["{}", "a sound"], "'a sound' has no {}"),
    ],
)
def test_bad_labels_and_templates_are_refused(encoder, labels, templates, message):
    with pytest.raises(QueryError, match=message):
        class_embeddings(encoder, labels, templates)
