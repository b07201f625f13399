"""The models that are in the package, and what is to be said of any model folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from clara_search.errors import UnknownModel

WEIGHTS = Path(__file__).parent.parent / "weights"


def bundled() -> list[str]:
    """Return the names of the models in the package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def find(name_or_path: str | Path) -> Path:
    """Return the folder of a bundled model or a model folder. Raises UnknownModel with what there is."""
    bundled_folder = WEIGHTS / str(name_or_path)
    if str(name_or_path) in bundled():
        return bundled_folder
    folder = Path(name_or_path)
    if folder.is_dir():
        return folder
    raise UnknownModel(
        f"no model {str(name_or_path)!r}: neither a folder nor one of the bundled models ({', '.join(bundled())})"
    )


def describe(name_or_path: str | Path) -> dict[str, Any]:
    """Return what `clara-search models show` prints. Raises UnknownModel or FormatError."""
    from clara_search.models import checkpoint

    folder = find(name_or_path)
    model, tokenizer = checkpoint.load_model(folder)
    config = model.config
    card_path = folder / checkpoint.CARD_FILE
    card = card_path.read_text(encoding="utf-8") if card_path.is_file() else ""
    licence = re.search(r"^license:\s*(.+)$", card, re.MULTILINE)
    return {
        "name": config.name,
        "folder": str(folder.resolve()),
        "dim": config.dim,
        "sample_rate": config.mel.sample_rate,
        "parameters": sum(p.numel() for p in model.parameters()),
        "size_bytes": (folder / checkpoint.WEIGHTS_FILE).stat().st_size,
        "vocab_size": tokenizer.vocab_size,
        "licence": licence.group(1) if licence else "not stated",
        "fingerprint": checkpoint.fingerprint(folder),
        "card": card,
    }
