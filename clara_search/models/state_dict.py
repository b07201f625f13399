"""State dicts of other programs: tensors renamed to the names of the bare model."""

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
"""Parts that DistributedDataParallel, DeepSpeed, torch.compile, Fabric, FSDP and checkpointing add to names."""


_COUNTERS = frozenset({"n_averaged"})
"""Tensors that `torch.optim.swa_utils.AveragedModel` stores beside the model."""


def unwrap(
    state: Mapping[str, T],
    path: Path,
    roots: Collection[str],
    usual: str = "",
    rename: Callable[[str], str | None] = lambda name: name,
) -> dict[str, T]:
    """Strip from names the parts that wrappers added, and log which.

    Args:
        state: Tensors by name, as stored.
        path: The file they are from, for messages.
        roots: Attributes in which a program may hold the model; stripped at the start of a name.
        usual: A prefix that is stripped without being logged.
        rename: Returns the model's name of a tensor, given its bare name; None for an unknown one, which keeps its
            stored name.

    Returns:
        The tensors by the model's names.

    Raises:
        FormatError: Two tensors get the same name.
    """
    renamed: dict[str, T] = {}
    origins: dict[str, str] = {}
    stripped: Counter[str] = Counter()
    for stored, tensor in state.items():
        if stored in _COUNTERS:
            log.warning("%s: left out %r, which is not a weight", path, stored)
            continue
        prefix, bare = _split(stored, roots)
        name = rename(bare) or stored
        if name in renamed:
            raise FormatError(
                f"{path}: {origins[name]} and {stored} are the same tensor of the model: keep one of them"
            )
        renamed[name], origins[name] = tensor, stored
        stripped[prefix] += 1
    for prefix, count in stripped.items():
        if prefix not in ("", usual):
            log.warning("%s: stripped %r from the names of %d tensors", path, prefix, count)
    return renamed


def summarize(*problems: Sequence[str]) -> str:
    """Return a line with the first three problems, alternating between the kinds, and the number of the others.

    Args:
        problems: Problems of one kind each.
    """
    mixed = [problem for problems_of_kind in zip_longest(*problems) for problem in problems_of_kind if problem]
    more = f" (and {len(mixed) - 3} more)" if len(mixed) > 3 else ""
    return f"{'; '.join(mixed[:3])}{more}"


def _split(name: str, roots: Collection[str]) -> tuple[str, str]:
    """Return the parts of `name` that are stripped, wherever they are, joined; and the bare name."""
    *parents, last = name.split(".")
    stripped: list[str] = []
    bare: list[str] = []
    for part in parents:
        is_stripped = part in WRAPPERS or (part in roots and not bare)
        (stripped if is_stripped else bare).append(part)
    return "".join(f"{part}." for part in stripped), ".".join([*bare, last])
