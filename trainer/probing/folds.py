"""Who is trained on, tuned on and tested: as the collection says, or so that no speaker stands on two sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

from clara_search.datasets.labelled import Clip
from clara_search.errors import SourceError

VALID_SHARE = 0.1
"""Of what is trained on, where nothing is declared to tune on."""

_RANDOM = "random folds"

SIDES = ("train", "valid", "test")


@dataclass(frozen=True)
class Fold:
    """Positions of clips, by what they are for."""

    name: str
    train: list[int]
    valid: list[int]
    test: list[int]


@dataclass(frozen=True)
class FoldPlan:
    """How a labelled set is divided: `kind` for people, one fold or several, and what is to be said about it."""

    kind: str
    folds: list[Fold]
    notes: list[str] = field(default_factory=list)


def make_folds(clips: Sequence[Clip], contents: Sequence[str], folds: int, where: object) -> FoldPlan:
    """Divide `clips`, whose files have the hashes `contents`, for training, tuning and test.

    Declared splits come first, then declared folds (each is tested once, the next one tuned on, none reshuffled). Where
    there are neither, `folds` folds are made in which no speaker stands in two. Of a recording that is tested, no copy
    is trained or tuned on. Raises SourceError for a split that is empty and for folds that cannot be.
    """
    if any(clip.split for clip in clips):
        division = _declared_splits(clips, where)
    else:
        declared = [clip.value("fold") for clip in clips]
        if any(declared):
            if not all(declared):
                raise SourceError(f"{where}: {declared.count(None)} clips are in no fold, the others are")
            division = _cross_validated("declared folds", [str(fold) for fold in declared], clips, where)
        else:
            division = _made_folds(clips, contents, folds, where)
    return _without_copies(division, contents)


def shared_speakers(fold: Fold, clips: Sequence[Clip]) -> int:
    """Return how many speakers of the test side are trained on as well."""
    heard = {clips[index].value("speaker") for index in fold.train} - {None}
    return len(heard & {clips[index].value("speaker") for index in fold.test})


def _declared_splits(clips: Sequence[Clip], where: object) -> FoldPlan:
    sides: dict[str, list[int]] = {side: [] for side in SIDES}
    others = Counter[str]()
    for index, clip in enumerate(clips):
        if clip.split in sides:
            sides[str(clip.split)].append(index)
        else:
            others[str(clip.split)] += 1
    notes = [f"{count} clips of the split {name!r} are left out" for name, count in others.items()]
    for side in ("train", "test"):
        if not sides[side]:
            found = ", ".join(f"{name} {len(indices)}" for name, indices in sides.items())
            raise SourceError(f"{where}: the split '{side}' is empty (of clips that can be used: {found})")
    fold = Fold("test", sides["train"], sides["valid"], sides["test"])
    if not fold.valid:
        fold = _with_validation(fold, clips, where)
        notes.append(f"no split to tune on is declared: {len(fold.valid)} clips of 'train' are taken for it")
    return FoldPlan("declared splits", [fold], notes)


def _made_folds(clips: Sequence[Clip], contents: Sequence[str], folds: int, where: object) -> FoldPlan:
    groups, kind = _groups(clips, contents)
    sizes = Counter(groups)
    if len(sizes) < 2:
        raise SourceError(f"{where}: declares neither splits nor folds, and all clips are of one {kind.split('-')[0]}")
    loads = [0] * min(folds, len(sizes))
    fold_of: dict[str, str] = {}
    for group, size in sorted(sizes.items(), key=lambda item: (-item[1], _spread(item[0]))):
        smallest = loads.index(min(loads))
        fold_of[group], loads[smallest] = str(1 + smallest), loads[smallest] + size
    division = _cross_validated(kind, [fold_of[group] for group in groups], clips, where)
    if kind == _RANDOM:
        division.notes.append("no speakers are declared: a voice that is tested may have been trained on")
    return division


def _groups(clips: Sequence[Clip], contents: Sequence[str]) -> tuple[list[str], str]:
    """Return what must not stand on two sides: speakers, else what comes from one source, else the same recording."""
    speakers = [clip.value("speaker") for clip in clips]
    if all(speakers):
        return [str(speaker) for speaker in speakers], "speaker-disjoint folds"
    groups = [speaker or clip.source for speaker, clip in zip(speakers, clips, strict=True)]
    if all(groups) and len(set(groups)) > 1:
        return groups, "source-disjoint folds"
    return list(contents), _RANDOM


def _cross_validated(kind: str, fold_of: Sequence[str], clips: Sequence[Clip], where: object) -> FoldPlan:
    names = sorted(set(fold_of), key=lambda name: (len(name), name))
    if len(names) < 2:
        raise SourceError(f"{where}: all clips that can be used are in fold {names[0]}; at least two are needed")
    made = []
    for place, name in enumerate(names):
        tuned = names[(place + 1) % len(names)] if len(names) > 2 else None
        sides: dict[str, list[int]] = {side: [] for side in SIDES}
        for index, fold in enumerate(fold_of):
            sides["test" if fold == name else "valid" if fold == tuned else "train"].append(index)
        made.append(Fold(name, **sides))
    if len(names) == 2:
        made = [_with_validation(fold, clips, where) for fold in made]
    return FoldPlan(kind, made)


def _with_validation(fold: Fold, clips: Sequence[Clip], where: object) -> Fold:
    """Take whole speakers of the training side to tune on, where there are enough, else single clips."""
    speakers = [clips[index].value("speaker") for index in fold.train]
    groups: list[Hashable] = list(speakers) if all(speakers) and len(set(speakers)) > 4 else list(fold.train)
    sizes = Counter(groups)
    wanted, taken = max(1, round(VALID_SHARE * len(groups))), set[Hashable]()
    held = 0
    for group in sorted(sizes, key=_spread):
        if held and held + sizes[group] > 1.5 * wanted:
            continue
        taken.add(group)
        held += sizes[group]
        if held >= wanted:
            break
    train = [index for index, group in zip(fold.train, groups, strict=True) if group not in taken]
    if not train:
        raise SourceError(f"{where}: too few clips to train and to tune on")
    return replace(fold, train=train, valid=[i for i, group in zip(fold.train, groups, strict=True) if group in taken])


def _spread(group: Hashable) -> bytes:
    """Return what puts groups into an order that has nothing to do with what they are, and is always the same."""
    return hashlib.sha256(str(group).encode("utf-8", "surrogatepass")).digest()


def _without_copies(division: FoldPlan, contents: Sequence[str]) -> FoldPlan:
    folds, dropped = [], 0
    for fold in division.folds:
        tested = {contents[index] for index in fold.test}
        valid = [index for index in fold.valid if contents[index] not in tested]
        held_out = tested | {contents[index] for index in valid}
        train = [index for index in fold.train if contents[index] not in held_out]
        dropped += len(fold.train) + len(fold.valid) - len(train) - len(valid)
        folds.append(replace(fold, train=train, valid=valid))
    note = f"{dropped} copies of recordings that are tested or tuned on are not trained on"
    return replace(division, folds=folds, notes=[*division.notes, *([note] if dropped else [])])
