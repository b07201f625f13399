from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from tests.helpers import PARITY


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whisper's `multilingual.tiktoken`, whole."""
    path = tmp_path_factory.mktemp("vocabulary") / "multilingual.tiktoken"
    path.write_bytes(lzma.decompress((PARITY / "multilingual.tiktoken.xz").read_bytes()))
    return path
