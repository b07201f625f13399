"""Load an encoder by name, folder or hub id."""

from __future__ import annotations

from pathlib import Path

from clara_search.models.base import Encoder

DEFAULT_MODEL = "clara-small"


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
    from clara_search.models import registry as catalog

    folder = catalog.find(model)
    name = str(model) if not Path(model).is_dir() and str(model) not in catalog.bundled() else None
    if catalog.model_type(folder) == "clap":
        from clara_search.models.clap import ClapEncoder

        return ClapEncoder(folder, device, precision, compile_model, name)
    from clara_search.models.clara.encoder import ClaraEncoder

    return ClaraEncoder(folder, device, precision, compile_model, name)
