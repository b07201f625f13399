"""State dicts that other programs wrote: their tensors under the names of the bare model."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from clara_search.errors import FormatError

log = logging.getLogger(__name__)

T = TypeVar("T")

WRAPPERS = frozenset(
    ("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
)
"""What DistributedDataParallel and DeepSpeed, torch.compile, Fabric, FSDP and activation checkpointing add to names."""


_COUNTERS = frozenset({"n_averaged"})
"""What `torch.optim.swa_utils.AveragedModel` stores beside the model."""


def unwrap(
    state: Mapping[str, T],
    path: Path,
    roots: Collection[str],
    usual: str = "",
    rename: Callable[[str], str | None] = lambda name: name,
) -> dict[str, T]:
    """Return `state` without what wrappers added to its names, and log what that was.

    Args:
        state: tensors by name, as stored.
        path: the file they are from, for messages.
        roots: names of attributes in which a program may hold the model; stripped at the beginning of a name.
        usual: the prefix that goes without saying.
        rename: what the model calls a tensor of a bare name; None for an unknown one, which stays as stored.

    Raises:
        FormatError: two tensors have the same name then.
    """
    renamed: dict[str, T] = {}
    origins: dict[str, str] = {}
    stripped: Counter[str] = Counter()
    for stored, tensor in state.items():
        if stored in _COUNTERS:
            log.warning("%s: left out %r, which is no weight", path, stored)
            continue
        prefix, bare = _split(stored, roots)
        name = rename(bare) or stored
        if name in renamed:
            raise FormatError(f"{path}: {origins[name]} and {stored} are one tensor of the model: keep one of them")
        renamed[name], origins[name] = tensor, stored
        stripped[prefix] += 1
    for prefix, count in stripped.items():
        if prefix not in ("", usual):
            log.warning("%s: stripped %r from the names of %d tensors", path, prefix, count)
    return renamed


def summarize(*problems: Sequence[str]) -> str:
    """Return three of `problems` on one line, one of each kind at first, and how many more there are."""
    rounds = [problem for each in zip_longest(*problems) for problem in each if problem is not None]
    more = f" (and {len(rounds) - 3} more)" if len(rounds) > 3 else ""
    return f"{'; '.join(rounds[:3])}{more}"


def _split(name: str, roots: Collection[str]) -> tuple[str, str]:
    """Return what is stripped from `name`, wherever it stands in it, and the rest."""
    *parents, last = name.split(".")
    stripped: list[str] = []
    kept: list[str] = []
    for part in parents:
        removable = part in WRAPPERS or (part in roots and not kept)
        (stripped if removable else kept).append(part)
    return "".join(f"{part}." for part in stripped), ".".join([*kept, last])
