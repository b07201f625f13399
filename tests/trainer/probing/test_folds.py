from pathlib import Path

import pytest

from clara_search.datasets.labelled import Clip
from clara_search.errors import SourceError
from trainer.probing.folds import FoldPlan, make_folds, shared_speakers


def clips(rows: list[dict[str, str]]) -> list[Clip]:
    return [Clip(str(number), Path(str(number)), row) for number, row in enumerate(rows)]


def divided(rows: list[dict[str, str]], folds: int = 5, contents: list[str] | None = None) -> FoldPlan:
    return make_folds(clips(rows), contents or [str(number) for number in range(len(rows))], folds, "m.csv")


def test_declared_splits_are_taken_at_their_word() -> None:
    rows = [{"split": "train"}, {"split": "dev"}, {"split": "test"}, {"split": "train"}, {"split": "extra"}]
    division = divided(rows)
    (fold,) = division.folds
    assert (fold.train, fold.valid, fold.test) == ([0, 3], [1], [2])
    assert division.notes == ["1 clips of the split 'extra' are left out"]


def test_without_a_split_to_tune_on_whole_speakers_of_train_are_taken_and_never_of_test() -> None:
    rows = [{"split": "train", "speaker": str(n // 5)} for n in range(50)] + [{"split": "test", "speaker": "t"}] * 5
    division = divided(rows)
    (fold,) = division.folds
    assert fold.test == [50, 51, 52, 53, 54]
    assert sorted([*fold.train, *fold.valid]) == list(range(50))
    assert len(fold.valid) == 5
    assert not {n // 5 for n in fold.train} & {n // 5 for n in fold.valid}
    assert "no split to tune on" in division.notes[0]


@pytest.mark.parametrize("empty", ["train", "test"])
def test_an_empty_split_is_named_with_what_there_is(empty: str) -> None:
    rows = [{"split": split} for split in ("train", "valid", "test") if split != empty]
    with pytest.raises(SourceError, match=rf"m\.csv: the split '{empty}' is empty .*valid 1"):
        divided(rows)


def test_declared_folds_are_each_tested_once_and_never_reshuffled() -> None:
    rows = [{"fold": str(1 + n % 10), "speaker": "same"} for n in range(40)]
    division = divided(rows, folds=3)
    assert division.kind == "declared folds"
    assert [fold.name for fold in division.folds] == [str(n) for n in range(1, 11)]
    for place, fold in enumerate(division.folds):
        assert {n % 10 for n in fold.test} == {place}
        assert {n % 10 for n in fold.valid} == {(place + 1) % 10}
        assert len(fold.train) == 32
    with pytest.raises(SourceError, match="1 clips are in no fold"):
        divided([*rows, {"speaker": "x"}])


def test_made_folds_keep_speakers_apart() -> None:
    rows = [{"speaker": f"s{n % 7}"} for n in range(70)]
    division = divided(rows, folds=3)
    assert division.kind == "speaker-disjoint folds"
    assert len(division.folds) == 3
    assert sorted(n for fold in division.folds for n in fold.test) == list(range(70))
    for fold in division.folds:
        voices = [{n % 7 for n in side} for side in (fold.train, fold.valid, fold.test)]
        assert sum(map(len, voices)) == len(set.union(*voices)) == 7
        assert shared_speakers(fold, clips(rows)) == 0


def test_where_some_speakers_are_unknown_sources_are_kept_apart() -> None:
    rows = [{"source": source, **({"speaker": "ann"} if source == "a" else {})} for source in "abc" for _ in range(4)]
    assert divided(rows).kind == "source-disjoint folds"
    assert all(len({n // 4 for n in fold.test}) == 1 for fold in divided(rows).folds)


def test_random_folds_are_called_so_and_one_speaker_alone_is_refused() -> None:
    division = divided([{} for _ in range(20)])
    assert division.kind == "random folds"
    assert "a voice that is tested may have been trained on" in division.notes[0]
    with pytest.raises(SourceError, match="all clips are of one speaker"):
        divided([{"speaker": "ann"}] * 20)


def test_of_what_is_tested_no_copy_is_trained_on() -> None:
    rows = [{"split": "train"}, {"split": "train"}, {"split": "valid"}, {"split": "test"}, {"split": "train"}]
    division = divided(rows, contents=["a", "b", "b", "a", "c"])
    (fold,) = division.folds
    assert (fold.train, fold.valid, fold.test) == ([4], [2], [3])
    assert division.notes == ["2 copies of recordings that are tested or tuned on are not trained on"]


def test_speakers_on_both_sides_are_counted() -> None:
    rows = [{"split": "train", "speaker": "a"}, {"split": "test", "speaker": "a"}, {"split": "test", "speaker": "b"}]
    rows += [{"split": "valid", "speaker": "c"}]
    assert shared_speakers(divided(rows).folds[0], clips(rows)) == 1
