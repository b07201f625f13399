"""Division of clips into training, validation and test: as the data declares, or with each speaker in one split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

from clara_search.datasets.labelled import Clip
from clara_search.errors import SourceError

VALID_SHARE = 0.1
"""Share of the training split that is used for validation if the data declares no validation split."""

_RANDOM = "random folds"

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Fold:
    """Indices of clips to train on, to choose settings by, and to test."""

    name: str
    train: list[int]
    valid: list[int]
    test: list[int]


@dataclass(frozen=True)
class FoldPlan:
    """The folds of a labelled set.

    Attributes:
        kind: how they were made, for people: "declared splits".
        folds: one fold, or several for cross-validation.
        notes: warnings for the reader of the scores.
    """

    kind: str
    folds: list[Fold]
    notes: list[str] = field(default_factory=list)


def make_folds(clips: Sequence[Clip], hashes: Sequence[str], folds: int, data: object) -> FoldPlan:
    """Divide clips for training, validation and test.

    Declared splits come first, then declared folds: each is tested once, and the next one is used for validation. Data
    that declares neither gets folds of disjoint speakers, or else of disjoint sources. A copy of a recording that is
    tested is neither trained on nor used for validation.

    Args:
        clips: n clips.
        hashes: of their files.
        folds: number of folds to make if the data declares none.
        data: name of the data, for errors.

    Returns:
        The folds, with a note about each peculiarity.

    Raises:
        SourceError: a declared split is empty, only some clips declare a fold, or there is a single fold or speaker.
    """
    if any(clip.split for clip in clips):
        plan = _declared_splits(clips, data)
    else:
        declared = [clip.value("fold") for clip in clips]
        if any(declared):
            if not all(declared):
                raise SourceError(f"{data}: {declared.count(None)} clips have no fold, but the others have")
            plan = _cross_validation("declared folds", [str(fold) for fold in declared], clips, data)
        else:
            plan = _disjoint_folds(clips, hashes, folds, data)
    return _drop_copies(plan, hashes)


def count_shared_speakers(fold: Fold, clips: Sequence[Clip]) -> int:
    """Return how many speakers of the test split are in the training split too."""
    trained = {clips[index].value("speaker") for index in fold.train} - {None}
    return len(trained & {clips[index].value("speaker") for index in fold.test})


def _declared_splits(clips: Sequence[Clip], data: object) -> FoldPlan:
    splits: dict[str, list[int]] = {name: [] for name in SPLITS}
    others = Counter[str]()
    for index, clip in enumerate(clips):
        if clip.split in splits:
            splits[str(clip.split)].append(index)
        else:
            others[str(clip.split)] += 1
    notes = [f"{count} clips of the split {name!r} are left out" for name, count in others.items()]
    for name in ("train", "test"):
        if not splits[name]:
            counts = ", ".join(f"{other} {len(indices)}" for other, indices in splits.items())
            raise SourceError(f"{data}: the split '{name}' is empty (usable clips: {counts})")
    fold = Fold("test", splits["train"], splits["valid"], splits["test"])
    if not fold.valid:
        fold = _with_validation(fold, clips, data)
        notes.append(f"no validation split is declared: {len(fold.valid)} clips of 'train' are used for it")
    return FoldPlan("declared splits", [fold], notes)


def _disjoint_folds(clips: Sequence[Clip], hashes: Sequence[str], folds: int, data: object) -> FoldPlan:
    groups, kind = _groups(clips, hashes)
    sizes = Counter(groups)
    if len(sizes) < 2:
        raise SourceError(f"{data}: declares neither splits nor folds, and all clips are of one {kind.split('-')[0]}")
    loads = [0] * min(folds, len(sizes))
    fold_of: dict[str, str] = {}
    for group, size in sorted(sizes.items(), key=lambda item: (-item[1], _order(item[0]))):
        smallest = loads.index(min(loads))
        fold_of[group], loads[smallest] = str(1 + smallest), loads[smallest] + size
    plan = _cross_validation(kind, [fold_of[group] for group in groups], clips, data)
    if kind == _RANDOM:
        plan.notes.append("no speakers are declared: the same voice may be trained on and tested")
    return plan


def _groups(clips: Sequence[Clip], hashes: Sequence[str]) -> tuple[list[str], str]:
    """Return a group for each clip, not to be divided: its speaker, else its source, else its content."""
    speakers = [clip.value("speaker") for clip in clips]
    if all(speakers):
        return [str(speaker) for speaker in speakers], "speaker-disjoint folds"
    groups = [speaker or clip.source for speaker, clip in zip(speakers, clips, strict=True)]
    if all(groups) and len(set(groups)) > 1:
        return groups, "source-disjoint folds"
    return list(hashes), _RANDOM


def _cross_validation(kind: str, fold_of: Sequence[str], clips: Sequence[Clip], data: object) -> FoldPlan:
    names = sorted(set(fold_of), key=lambda name: (len(name), name))
    if len(names) < 2:
        raise SourceError(f"{data}: all usable clips are in fold {names[0]}; at least two folds are needed")
    folds = []
    for number, name in enumerate(names):
        valid = names[(number + 1) % len(names)] if len(names) > 2 else None
        splits: dict[str, list[int]] = {split: [] for split in SPLITS}
        for index, fold in enumerate(fold_of):
            splits["test" if fold == name else "valid" if fold == valid else "train"].append(index)
        folds.append(Fold(name, **splits))
    if len(names) == 2:
        folds = [_with_validation(fold, clips, data) for fold in folds]
    return FoldPlan(kind, folds)


def _with_validation(fold: Fold, clips: Sequence[Clip], data: object) -> Fold:
    """Move clips from training to validation: whole speakers if there are more than four, else single clips."""
    speakers = [clips[index].value("speaker") for index in fold.train]
    groups: list[Hashable] = list(speakers) if all(speakers) and len(set(speakers)) > 4 else list(fold.train)
    sizes = Counter(groups)
    wanted, moved = max(1, round(VALID_SHARE * len(groups))), set[Hashable]()
    count = 0
    for group in sorted(sizes, key=_order):
        if count and count + sizes[group] > 1.5 * wanted:
            continue
        moved.add(group)
        count += sizes[group]
        if count >= wanted:
            break
    train = [index for index, group in zip(fold.train, groups, strict=True) if group not in moved]
    if not train:
        raise SourceError(f"{data}: too few clips for training and validation")
    return replace(fold, train=train, valid=[i for i, group in zip(fold.train, groups, strict=True) if group in moved])


def _order(group: Hashable) -> bytes:
    """Return a sort key that has nothing to do with the group's meaning, and is always the same."""
    return hashlib.sha256(str(group).encode("utf-8", "surrogatepass")).digest()


def _drop_copies(plan: FoldPlan, hashes: Sequence[str]) -> FoldPlan:
    folds, num_dropped = [], 0
    for fold in plan.folds:
        tested = {hashes[index] for index in fold.test}
        valid = [index for index in fold.valid if hashes[index] not in tested]
        held_out = tested | {hashes[index] for index in valid}
        train = [index for index in fold.train if hashes[index] not in held_out]
        num_dropped += len(fold.train) + len(fold.valid) - len(train) - len(valid)
        folds.append(replace(fold, train=train, valid=valid))
    note = f"{num_dropped} copies of recordings in the test or validation split are not trained on"
    return replace(plan, folds=folds, notes=[*plan.notes, *([note] if num_dropped else [])])
