import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clara_search.classification.head import HeadConfig
from clara_search.classification.head_files import CONFIG_FILE, WEIGHTS_FILE, load_head, save_head
from clara_search.errors import FormatError
from trainer.probing.fit import Examples, fit
from trainer.probing.sgd import UNKNOWN, FitConfig, class_weights, sample_batches

DIM = 8
SHAPE = HeadConfig("linear", "audio", {"side": ("left", "right")}, DIM)


def examples(n: int = 200, seed: int = 0, spread: float = 0.3) -> Examples:
    """Two classes along the first axis of the recordings' vectors; of the texts' along the second, and less clearly."""
    rng = np.random.default_rng(seed)
    side = rng.integers(0, 2, n)
    audio, text = rng.normal(scale=spread, size=(2, n, DIM))
    audio[:, 0] += 2 * side - 1
    text[:, 1] += (2 * side - 1) * 0.3
    audio /= np.linalg.norm(audio, axis=1, keepdims=True)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    return Examples(torch.from_numpy(audio).float(), torch.from_numpy(text).float(), [torch.from_numpy(side)])


def accuracy_of(head, given: Examples) -> float:  # type: ignore[no-untyped-def]
    probabilities = head.probabilities(given.audio.numpy(), None if given.text is None else given.text.numpy())
    return float((probabilities["side"].argmax(axis=1) == given.targets[0].numpy()).mean())


@pytest.mark.parametrize("kind", ["linear", "mlp", "knn", "logistic"])
@pytest.mark.parametrize("inputs", ["audio", "text", "both", "late"])
def test_every_head_learns_from_every_input_and_survives_saving(kind: str, inputs: str, tmp_path: Path) -> None:
    config = FitConfig(kind, inputs, lr=1e-2, epochs=15, batch_size=32, hidden=(16, 8))  # type: ignore[arg-type]
    stored = "linear" if kind == "logistic" else kind
    shape = replace(SHAPE, kind=stored, inputs=inputs, hidden=(16, 8))  # type: ignore[arg-type]
    rows: list[dict[str, float]] = []
    head, history = fit(config, shape, examples(), examples(60, 1), rows.append)
    assert rows == history
    test = examples(200, 2)
    assert accuracy_of(head, test) > (0.7 if inputs == "text" else 0.95)
    save_head(tmp_path / "head", head)
    again = load_head(tmp_path / "head")
    assert again.config == head.config
    vectors = test.audio.numpy(), test.text.numpy()  # type: ignore[union-attr]
    assert np.array_equal(again.probabilities(*vectors)["side"], head.probabilities(*vectors)["side"])
    assert np.allclose(again.probabilities(*vectors)["side"].sum(axis=1), 1.0, atol=1e-4)


def test_late_fusion_gives_the_better_input_more_weight() -> None:
    shape = replace(SHAPE, inputs="late")
    train, valid = examples(), examples(100, 1)
    noise = torch.nn.functional.normalize(
        torch.randn(len(train), DIM, generator=torch.Generator().manual_seed(0)), dim=1
    )
    deaf, blank = replace(train, text=noise), replace(valid, text=noise[: len(valid)])
    head, _ = fit(FitConfig("logistic", "late"), shape, deaf, blank, lambda row: None)
    assert head.mix[0] > head.mix[1]


def test_training_stops_early_and_keeps_the_best_epoch() -> None:
    train = examples(40, spread=1.0)
    # The labels have nothing to do with the vectors: the best epoch is an early one, by accident.
    train = replace(train, targets=[torch.randint(0, 2, (40,), generator=torch.Generator().manual_seed(0))])
    valid = examples(30, 1, spread=1.0)
    config = FitConfig("mlp", lr=1e-2, epochs=60, patience=4, batch_size=8, monitor="loss")
    head, history = fit(config, replace(SHAPE, kind="mlp"), train, valid, lambda row: None)
    losses = [row["valid_loss"] for row in history]
    assert len(history) == int(np.argmin(losses)) + 1 + 4 < 60
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(head(valid.audio, None)[0], valid.targets[0])
    assert float(loss) == pytest.approx(min(losses), rel=1e-5)


def test_tasks_share_a_trunk_and_unknown_labels_do_not_count() -> None:
    train, valid, test = examples(), examples(60, 1), examples(100, 2)

    def with_task(given: Examples) -> Examples:
        other = (given.audio[:, 2] > 0).long()
        other[::3] = UNKNOWN
        return replace(given, targets=[given.targets[0], other])

    shape = HeadConfig("mlp", "audio", {"side": ("left", "right"), "up": ("no", "yes")}, DIM, hidden=(32,))
    config = FitConfig("mlp", lr=1e-2, epochs=40, batch_size=32, hidden=(32,))
    head, _ = fit(config, shape, with_task(train), with_task(valid), lambda row: None)
    assert accuracy_of(head, test) > 0.95
    up = head.probabilities(test.audio.numpy())["up"].argmax(axis=1)
    assert float((up == (test.audio[:, 2] > 0).numpy()).mean()) > 0.8


def test_heads_learn_several_labels_a_clip() -> None:
    train, valid, test = examples(300), examples(100, 1), examples(200, 2)

    def labelled(given: Examples) -> Examples:
        return replace(given, targets=[(given.audio[:, :3] > 0).float()])

    for kind in ("linear", "logistic", "knn"):
        shape = HeadConfig(
            "linear" if kind == "logistic" else kind,
            "audio",
            {"axes": ("x", "y", "z")},
            DIM,
            multi_label=True,  # type: ignore[arg-type]
        )
        config = FitConfig(kind, lr=1e-2, epochs=30, batch_size=32, monitor="map")  # type: ignore[arg-type]
        head, _ = fit(config, shape, labelled(train), labelled(valid), lambda row: None)
        named = head.probabilities(test.audio.numpy())["axes"] > 0.5
        assert float((named == (test.audio[:, :3] > 0).numpy()).mean()) > 0.75


def test_weights_and_sampling_balance_classes() -> None:
    targets = [torch.tensor([0] * 90 + [1] * 10)]
    (weights,) = class_weights(targets, SHAPE)
    assert weights is not None
    assert weights.tolist() == pytest.approx([100 / 180, 100 / 20])
    config = FitConfig(balance="sampling", batch_size=1000)
    (batch,) = sample_batches(1000, config, [torch.tensor([0] * 900 + [1] * 100)], SHAPE, epoch=0)
    assert float((batch >= 900).float().mean()) == pytest.approx(0.5, abs=0.05)
    even = torch.cat(list(sample_batches(100, FitConfig(batch_size=30), targets, SHAPE, epoch=0)))
    assert sorted(even.tolist()) == list(range(100))


def test_a_broken_head_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not a head folder"):
        load_head(tmp_path)
    head, _ = fit(FitConfig(epochs=1), SHAPE, examples(), examples(), lambda row: None)
    save_head(tmp_path, head)
    good = (tmp_path / CONFIG_FILE).read_text()
    for broken, message in (
        ("{", "not JSON"),
        (json.dumps({**json.loads(good), "format_version": 99}), "format version"),
        (json.dumps({**json.loads(good), "kinds": 1}), "unknown key 'kinds'"),
        (
            json.dumps({**json.loads(good), "tasks": {"side": ["left"]}}),
            r"parts\.0\.outputs\.0\.bias has shape \(2,\), expected \(1,\)",
        ),
        (json.dumps({**json.loads(good), "tasks": {}}), "needs a task"),
    ):
        (tmp_path / CONFIG_FILE).write_text(broken)
        with pytest.raises(FormatError, match=message):
            load_head(tmp_path)
    (tmp_path / CONFIG_FILE).write_text(good)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"no weights")
    with pytest.raises(FormatError, match=WEIGHTS_FILE):
        load_head(tmp_path)
