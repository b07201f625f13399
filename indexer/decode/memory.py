"""The memory of a decoding process: a bomb that no limit foresaw ends in an error of its own recording."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from clara_search.files.limits import DECODER_BYTES

_STATM = Path("/proc/self/statm")


def limit_memory() -> int | None:
    """Limit the address space of this process to its present size and the limit `decoder_bytes`.

    Returns:
        The bytes of address space that it may have; None where the system has no such limit, or does not tell the
        present size: macOS and Windows.
    """
    try:
        import resource

        pages = int(_STATM.read_text(encoding="ascii").split()[0])
    except (ImportError, OSError, ValueError):
        return None
    most = pages * resource.getpagesize() + DECODER_BYTES.value
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        return most
    return None
