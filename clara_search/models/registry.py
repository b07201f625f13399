"""Models by name, folder or hub id: find one, load it as an encoder, describe it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from clara_search.errors import FormatError, UnknownModel
from clara_search.models import hub
from clara_search.models.base import Encoder

DEFAULT_MODEL = "clara-small"

WEIGHTS = Path(__file__).parent.parent / "weights"


def load_encoder(
    model: str | Path = DEFAULT_MODEL,
    device: str | None = None,
    precision: str = "auto",
    compile_model: bool = False,
) -> Encoder:
    """Return the encoder of a model: a bundled one's name, a model folder, or a hub id, "organisation/name[@revision]".

    A folder holds a CLARA model of this project or a CLAP model of `transformers`. It computes on `device` ("cpu",
    "cuda", "cuda:1"), by default on the first GPU where torch finds one, in `precision`: "fp32", "bf16", "int8" (CLARA
    on a CPU), or "auto", which is bf16 on a GPU that multiplies it and fp32 elsewhere. `compile_model` has
    torch compile it, which takes minutes and pays on a GPU over a large corpus.

    Raises UnknownModel where there is none of that name, FormatError where its folder is broken, DeviceError for a
    device or a precision that there is not.
    """
    folder = find_model(model)
    name = str(model) if not Path(model).is_dir() and str(model) not in bundled_models() else None
    if model_type(folder) == "clap":
        from clara_search.models.clap import ClapEncoder

        return ClapEncoder(folder, device, precision, compile_model, name)
    from clara_search.models.clara.encoder import ClaraEncoder

    return ClaraEncoder(folder, device, precision, compile_model, name)


def bundled_models() -> list[str]:
    """Return the names of the models in the package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def find_model(model: str | Path) -> Path:
    """Return the folder of a bundled model, a model folder, or a model of the hub (fetched where it must be).

    Raises UnknownModel with what there is.
    """
    if str(model) in bundled_models():
        return WEIGHTS / str(model)
    folder = Path(model)
    try:
        if str(model) and folder.is_dir():
            return folder
    except OSError:  # too long for a name
        pass
    if isinstance(model, str) and hub.is_hub_id(model):
        return hub.download_model(model)
    raise UnknownModel(
        f"no model {str(model)!r}: neither one of the bundled models ({', '.join(bundled_models())}), nor a folder, "
        "nor a model of the hub (organisation/name)"
    )


def model_type(folder: Path) -> str:
    """Return "clara" or "clap", the kind of the model in `folder`. Raises FormatError for a folder of no such model."""
    from clara_search.models.clara.checkpoint import CONFIG_FILE, read_json

    found = read_json(folder).get("model_type")
    if found not in ("clara", "clap"):
        raise FormatError(f"{folder / CONFIG_FILE}: model type {found!r}; clara-search reads 'clara' and 'clap'")
    return str(found)


def describe_model(model: str | Path) -> dict[str, Any]:
    """Return what `clara-search models show` prints. Raises UnknownModel or FormatError."""
    from clara_search.models import clap as hf_clap
    from clara_search.models.clara import checkpoint

    folder = find_model(model)
    kind = model_type(folder)
    described = (checkpoint if kind == "clara" else hf_clap).describe(folder)
    card_path = folder / checkpoint.CARD_FILE
    card = card_path.read_text(encoding="utf-8", errors="replace") if card_path.is_file() else ""
    licence = re.search(r"^license:\s*(.+)$", card, re.MULTILINE)
    return {
        **described,
        "kind": kind,
        "folder": str(folder.resolve()),
        "licence": licence.group(1) if licence else "not stated",
        "card": card,
    }
