from pathlib import Path

import pytest

from clara_search.datasets.labelled import Clip
from clara_search.errors import SourceError
from trainer.probing.folds import FoldPlan, count_shared_speakers, make_folds


def clips(rows: list[dict[str, str]]) -> list[Clip]:
    return [Clip(str(number), Path(str(number)), row) for number, row in enumerate(rows)]


def folds_of(rows: list[dict[str, str]], folds: int = 5, hashes: list[str] | None = None) -> FoldPlan:
    return make_folds(clips(rows), hashes or [str(number) for number in range(len(rows))], folds, "m.csv")


def test_declared_splits_are_used_as_they_are() -> None:
    rows = [{"split": "train"}, {"split": "dev"}, {"split": "test"}, {"split": "train"}, {"split": "extra"}]
    plan = folds_of(rows)
    (fold,) = plan.folds
    assert (fold.train, fold.valid, fold.test) == ([0, 3], [1], [2])
    assert plan.notes == ["1 clips of the split 'extra' are left out"]


def test_a_missing_validation_split_is_made_of_whole_training_speakers() -> None:
    rows = [{"split": "train", "speaker": str(n // 5)} for n in range(50)] + [{"split": "test", "speaker": "t"}] * 5
    plan = folds_of(rows)
    (fold,) = plan.folds
    assert fold.test == [50, 51, 52, 53, 54]
    assert sorted([*fold.train, *fold.valid]) == list(range(50))
    assert len(fold.valid) == 5
    assert not {n // 5 for n in fold.train} & {n // 5 for n in fold.valid}
    assert "no validation split" in plan.notes[0]


@pytest.mark.parametrize("empty", ["train", "test"])
def test_an_empty_split_is_named_with_the_sizes_of_the_others(empty: str) -> None:
    rows = [{"split": split} for split in ("train", "valid", "test") if split != empty]
    with pytest.raises(SourceError, match=rf"m\.csv: the split '{empty}' is empty .*valid 1"):
        folds_of(rows)


def test_declared_folds_are_tested_once_each_and_not_reshuffled() -> None:
    rows = [{"fold": str(1 + n % 10), "speaker": "same"} for n in range(40)]
    plan = folds_of(rows, folds=3)
    assert plan.kind == "declared folds"
    assert [fold.name for fold in plan.folds] == [str(n) for n in range(1, 11)]
    for number, fold in enumerate(plan.folds):
        assert {n % 10 for n in fold.test} == {number}
        assert {n % 10 for n in fold.valid} == {(number + 1) % 10}
        assert len(fold.train) == 32
    with pytest.raises(SourceError, match="1 clips have no fold"):
        folds_of([*rows, {"speaker": "x"}])


def test_made_folds_have_disjoint_speakers() -> None:
    rows = [{"speaker": f"s{n % 7}"} for n in range(70)]
    plan = folds_of(rows, folds=3)
    assert plan.kind == "speaker-disjoint folds"
    assert len(plan.folds) == 3
    assert sorted(n for fold in plan.folds for n in fold.test) == list(range(70))
    for fold in plan.folds:
        voices = [{n % 7 for n in split} for split in (fold.train, fold.valid, fold.test)]
        assert sum(map(len, voices)) == len(set.union(*voices)) == 7
        assert count_shared_speakers(fold, clips(rows)) == 0


def test_folds_have_disjoint_sources_if_speakers_are_missing() -> None:
    rows = [{"source": source, **({"speaker": "ann"} if source == "a" else {})} for source in "abc" for _ in range(4)]
    assert folds_of(rows).kind == "source-disjoint folds"
    assert all(len({n // 4 for n in fold.test}) == 1 for fold in folds_of(rows).folds)


def test_random_folds_are_reported_and_a_single_speaker_is_refused() -> None:
    plan = folds_of([{} for _ in range(20)])
    assert plan.kind == "random folds"
    assert "the same voice may be trained on and tested" in plan.notes[0]
    with pytest.raises(SourceError, match="all clips are of one speaker"):
        folds_of([{"speaker": "ann"}] * 20)


def test_copies_of_tested_recordings_are_not_trained_on() -> None:
    rows = [{"split": "train"}, {"split": "train"}, {"split": "valid"}, {"split": "test"}, {"split": "train"}]
    plan = folds_of(rows, hashes=["a", "b", "b", "a", "c"])
    (fold,) = plan.folds
    assert (fold.train, fold.valid, fold.test) == ([4], [2], [3])
    assert plan.notes == ["2 copies of recordings in the test or validation split are not trained on"]


def test_speakers_in_training_and_test_are_counted() -> None:
    rows = [{"split": "train", "speaker": "a"}, {"split": "test", "speaker": "a"}, {"split": "test", "speaker": "b"}]
    rows += [{"split": "valid", "speaker": "c"}]
    assert count_shared_speakers(folds_of(rows).folds[0], clips(rows)) == 1
