"""Models of the Hugging Face hub: fetched once into its cache, and offered to others."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path

from clara_search.errors import SourceError, UnknownModel, first_line

_ID = re.compile(r"(?P<repository>[\w][\w.-]*/[\w][\w.-]*)(@(?P<revision>[\w-][\w.-]*(/[\w-][\w.-]*)*))?")

_FILES = ("*.json", "*.safetensors", "*.txt", "README.md")
"""What is fetched: configuration, weights, tokenizer and card; no code, nothing pickled."""

_PUSHED = re.compile(
    r"README\.md|config\.json|model\.safetensors|model-\d{5}-of-\d{5}\.safetensors|model\.safetensors\.index\.json"
    r"|tokenizer\.json|vocab\.json|merges\.txt|special_tokens_map\.json|added_tokens\.json"
    r"|(tokenizer|preprocessor|processor)_config\.json"
)
"""The names of a model folder's files, of our models and of those of `transformers`: no others are pushed."""

_MESSAGE = "Upload a clara-search model"

_OLD_WEIGHTS = "pytorch_model.bin"
"""Fetched where there are no others; `transformers` reads nothing but tensors from it."""


def is_hub_id(name: str) -> bool:
    """Tell whether `name` is written like a model of the hub: organisation/name, with @revision where wanted."""
    return _match(name) is not None


def download_model(name: str) -> Path:
    """Return the folder of the hub's model `name`, from the cache where it is there, else downloaded.

    Raises UnknownModel where the hub has none of that name, or cannot be reached and the cache does not hold it.
    """
    import huggingface_hub
    from huggingface_hub import errors

    match = _match(name)
    if match is None:
        raise UnknownModel(f"{name!r} is not written like a model of the hub, organisation/name or .../name@revision")
    repository, revision = match["repository"], match["revision"]
    try:
        folder = Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=_FILES))
        if not any(folder.glob("*.safetensors")):
            huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=_OLD_WEIGHTS)
        return folder
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UnknownModel(
            f"the hub has no model {name!r}, or it is not public: sign in with `hf auth login`"
        ) from error
    except errors.HFValidationError as error:
        raise UnknownModel(f"{name!r} cannot be the name of a model of the hub ({first_line(error)})") from error
    except (errors.HTTPError, OSError, ValueError, ImportError) as error:
        at = f" --revision {revision}" if revision else ""
        raise UnknownModel(
            f"model {name!r} is not on this machine and the hub cannot be reached ({first_line(error)}): "
            f"where there is a network, run `hf download {repository}{at} --local-dir DIR`, bring DIR here "
            "and name it instead"
        ) from error


def _match(name: str) -> re.Match[str] | None:
    """Return the parts of a name; None for one with "..", which no branch has, and with which a cache is left."""
    return None if ".." in name else _ID.fullmatch(name)


def list_files_to_push(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of a model folder that `push_model` uploads, and what else lies in it, both sorted.

    Raises:
        SourceError: One of the files is a link, or no file.
    """
    there = sorted(folder.iterdir())
    files = [path for path in there if _PUSHED.fullmatch(path.name)]
    for path in files:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise SourceError(f"{path}: is a link, or no file: only files are pushed; put a copy there")
    return files, [path for path in there if path not in files]


def push_model(files: Sequence[Path], repository: str, private: bool = False) -> str:
    """Upload the `files` of a model folder as the hub's model `repository` and return its address.

    Raises UnknownModel where the hub cannot be reached, does not let us in or refuses the card.
    """
    import huggingface_hub
    from huggingface_hub import errors

    api = huggingface_hub.HfApi()
    operations = [huggingface_hub.CommitOperationAdd(path.name, path) for path in files]
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.create_commit(repository, operations, commit_message=_MESSAGE)
    except (errors.HTTPError, ValueError, OSError, ImportError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnknownModel(f"{repository}: could not be pushed ({reason}); sign in with `hf auth login`") from error
    return str(address)
