"""Models by name, folder or hub id: find them, load them as encoders, describe them.

A type of model is one class (see `EncoderType`) and one line in `ENCODERS`, or an entry point of another package.
"""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from clara_search.errors import ClaraError, FormatError, UnknownModel, first_line
from clara_search.models import hub
from clara_search.models.base import Encoder, EncoderType, LoadOptions
from clara_search.models.folder import CONFIG_FILE, read_card, read_json
from clara_search.models.recorded import RecordedModel

DEFAULT_MODEL = "clara-small"

WEIGHTS = Path(__file__).parent.parent / "weights"

ENTRY_POINT_GROUP = "clara_search.encoders"

ENCODERS = {
    "clap": "clara_search.models.clap:ClapEncoder",
    "clara": "clara_search.models.clara.encoder:ClaraEncoder",
}
"""Model types of this package and their classes, imported at first use. Other packages cannot replace them."""

_DESCRIBED = ("name", "dim", "sample_rate", "fingerprint")


class _Resolved(NamedTuple):
    """A model that was found: its type, its folder or other source, and the name for tables (None: its own)."""

    model_type: str
    source: str | Path
    name: str | None


def load_encoder(
    model: str | Path | RecordedModel = DEFAULT_MODEL,
    device: str | None = None,
    precision: str = "auto",
    compile_model: bool = False,
) -> Encoder:
    """Load a model as an encoder.

    Args:
        model: Name of a bundled model ("clara-small"), a model folder (CLARA's, CLAP's of `transformers`, or of a type
            that an installed package registers), a hub id ("organisation/name", "organisation/name@revision"), or
            "TYPE:SOURCE" for the source of a registered type that has no folder. A `RecordedModel` is loaded if it is
            bundled, or on this machine with the fingerprint that is recorded: the hub is not contacted.
        device: "cpu", "cuda", "cuda:1" ...; None: the first GPU if torch finds one, else the CPU.
        precision: "fp32", "bf16", "int8" (CLARA on a CPU), or "auto": bf16 on a GPU that supports it, else fp32.
        compile_model: Compile the model with torch. This takes minutes and pays off on a GPU over a large corpus.

    Returns:
        The encoder, ready to use.

    Raises:
        UnknownModel: There is no model of that name, or no installed package registers its type.
        FormatError: The model folder is broken.
        DeviceError: The device or precision is not available.
    """
    resolved = _resolve(model)
    options = LoadOptions(device, precision, compile_model, resolved.name)
    return _encoder_type(resolved).load(resolved.source, options)


def describe_model(model: str | Path) -> dict[str, Any]:
    """Describe a model without loading its weights, as `clara-search models show` prints it.

    Args:
        model: As in `load_encoder`.

    Returns:
        At least "name", "dim", "sample_rate" (Hz), "fingerprint", "model_type", "licence" and "card"; "folder" if the
        model has one.

    Raises:
        UnknownModel: There is no model of that name, or no installed package registers its type.
        FormatError: The model folder is broken.
    """
    resolved = _resolve(model)
    described = _encoder_type(resolved).describe(resolved.source)
    if missing := [key for key in _DESCRIBED if key not in described]:
        raise FormatError(f"model type {resolved.model_type!r}: its description lacks {', '.join(missing)}")
    folder = resolved.source if isinstance(resolved.source, Path) else None
    card = read_card(folder) if folder else ""
    licence = re.search(r"^license:\s*(.+)$", card, re.MULTILINE)
    return {
        **described,
        "model_type": resolved.model_type,
        **({"folder": str(folder.resolve())} if folder else {}),
        "licence": licence.group(1) if licence else "not stated",
        "card": card,
    }


def bundled_models() -> list[str]:
    """Return the names of the models that come with this package, sorted."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def model_types() -> list[str]:
    """Return the registered model types, of this package and of others, sorted."""
    return sorted({*ENCODERS, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def model_type(model: str | Path) -> str:
    """Return the type of a model, such as "clara" or "clap".

    Raises:
        UnknownModel: There is no model of that name.
        FormatError: Its folder has no `config.json`, or one that states no type.
    """
    return _resolve(model).model_type


def model_card(model: str | Path) -> str:
    """Return the card of a model, Markdown; an empty string if it has none.

    Raises:
        UnknownModel: There is no model of that name.
    """
    source = _typed_source(model)
    folder = find_model(model) if source is None else source.source
    return read_card(folder) if isinstance(folder, Path) else ""


def find_model(model: str | Path) -> Path:
    """Return the folder of a bundled model, of a model folder's path, or of a hub id, downloaded if necessary.

    Raises:
        UnknownModel: There is no such model; the message lists the bundled ones.
    """
    if str(model) in bundled_models():
        return WEIGHTS / str(model)
    if _is_folder(model):
        return Path(model)
    if isinstance(model, str) and hub.is_hub_id(model):
        return hub.download_model(model)
    raise UnknownModel(
        f"no model {str(model)!r}: expected a bundled model ({', '.join(bundled_models())}), a folder, "
        f"a model of the hub (organisation/name), or TYPE:SOURCE of a registered type ({', '.join(model_types())})"
    )


def _resolve(model: str | Path | RecordedModel) -> _Resolved:
    if isinstance(model, RecordedModel):
        return _resolve_recorded(model)
    if typed := _typed_source(model):
        return typed
    folder = find_model(model)
    stated = read_json(folder).get("model_type")
    if not isinstance(stated, str):
        raise FormatError(f"{folder / CONFIG_FILE}: states no model_type")
    has_own_name = _is_folder(model) or str(model) in bundled_models()
    return _Resolved(stated, folder, None if has_own_name else str(model))


def _resolve_recorded(model: RecordedModel) -> _Resolved:
    """Return a bundled model, or one of this machine with the recorded fingerprint, without contact to the hub.

    Raises:
        UnknownModel: It is neither.
    """
    if model.name in bundled_models():
        return _resolve(model.name)
    reason = "it is not on this machine"
    if model.is_in_hub_cache:
        folder = hub.cached_model(model.name)
    else:
        folder = Path(model.name) if model.is_folder_name and _is_folder(model.name) else None
    if folder is not None:
        try:
            resolved = _resolve(folder)._replace(name=model.name if model.is_in_hub_cache else None)
            if _encoder_type(resolved).describe(folder)["fingerprint"] == model.fingerprint:
                return resolved
            reason = "the one on this machine has another fingerprint"
        except (ClaraError, KeyError) as error:
            reason = f"the one on this machine cannot be used ({first_line(error)})"
    raise UnknownModel(
        f"model {model.name!r}, as it is recorded, is not loaded: it is not bundled, and {reason}; "
        "name a model that you trust as `model` to load or download it"
    )


def _typed_source(model: str | Path) -> _Resolved | None:
    """Return the parts of "TYPE:SOURCE"; None for a model that is named otherwise."""
    prefix, colon, source = str(model).partition(":")
    if not colon or _is_folder(model) or prefix not in model_types():
        return None
    return _Resolved(prefix, Path(source), None) if _is_folder(source) else _Resolved(prefix, source, str(model))


def _encoder_type(model: _Resolved) -> EncoderType:
    """Return the class registered for a model; other packages are only searched for types that are not ours."""
    name = model.model_type
    if name in ENCODERS:
        points = {EntryPoint(name, ENCODERS[name], ENTRY_POINT_GROUP)}
    else:
        points = {EntryPoint(x.name, x.value, x.group) for x in entry_points(group=ENTRY_POINT_GROUP, name=name)}
    where = f"{model.source}: model type {name!r}"
    if not points:
        raise UnknownModel(f"{where} is not known: this installation reads {', '.join(model_types())}")
    if len(points) > 1:
        values = ", ".join(sorted(point.value for point in points))
        raise UnknownModel(f"{where} is registered by two packages ({values}): uninstall one of them")
    (point,) = points
    try:
        encoder_type: EncoderType = point.load()
    except Exception as error:  # the import of another package may fail in any way
        if name in ENCODERS:
            raise
        raise UnknownModel(f"{where} needs {point.value}, which cannot be imported ({first_line(error)})") from error
    return encoder_type


def _is_folder(path: str | Path) -> bool:
    try:
        return bool(str(path)) and Path(path).is_dir()
    except (OSError, ValueError):  # too long for a name, or with a null character
        return False
