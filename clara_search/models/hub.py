"""Models of the Hugging Face hub: download into its cache, upload of model folders."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path

from clara_search.errors import SourceError, UnknownModel, first_line

_ID = re.compile(r"(?P<repository>[\w][\w.-]*/[\w][\w.-]*)(@(?P<revision>[\w-][\w.-]*(/[\w-][\w.-]*)*))?")

_DOWNLOADED = ("*.json", "*.safetensors", "*.txt", "README.md")
"""Files to download: configuration, weights, tokenizer and card; no code, nothing pickled."""

_PUSHED = re.compile(
    r"README\.md|config\.json|model\.safetensors|model-\d{5}-of-\d{5}\.safetensors|model\.safetensors\.index\.json"
    r"|tokenizer\.json|vocab\.json|merges\.txt|special_tokens_map\.json|added_tokens\.json"
    r"|(tokenizer|preprocessor|processor)_config\.json|sounds\.json|sounds\.safetensors|sounds_tokenizer\.json"
    r"|pronunciation\.json"
)
"""Names of the files of model folders, CLARA's and those of `transformers`: no others are uploaded."""

_MESSAGE = "Upload a clara-search model"

_OLD_WEIGHTS = "pytorch_model.bin"
"""Downloaded if there are no safetensors; only tensors are read from it."""


def is_hub_id(name: str) -> bool:
    """Tell whether `name` has the form of a hub id: organisation/name or organisation/name@revision."""
    return _match(name) is not None


def download_model(name: str, files: Sequence[str] = _DOWNLOADED) -> Path:
    """Download a model from the hub, unless the cache has it. The user's token is sent.

    Args:
        name: organisation/name or organisation/name@revision, as the user typed it.
        files: Names and patterns of the files to download.

    Returns:
        The model folder in the cache.

    Raises:
        UnknownModel: The hub has no such model, or cannot be reached and the cache does not have it.
    """
    import huggingface_hub
    from huggingface_hub import errors

    match = _match(name)
    if match is None:
        raise UnknownModel(f"{name!r} is not a hub id: expected organisation/name or organisation/name@revision")
    repository, revision = match["repository"], match["revision"]
    try:
        folder = Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=list(files)))
        if files is _DOWNLOADED and not any(folder.glob("*.safetensors")):
            huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=_OLD_WEIGHTS)
        return folder
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UnknownModel(
            f"the hub has no model {name!r}, or it is not public: sign in with `hf auth login`"
        ) from error
    except errors.HFValidationError as error:
        raise UnknownModel(f"{name!r} is not a hub id ({first_line(error)})") from error
    except (errors.HTTPError, OSError, ValueError, ImportError) as error:
        at = f" --revision {revision}" if revision else ""
        raise UnknownModel(
            f"model {name!r} is not on this machine and the hub cannot be reached ({first_line(error)}): on a machine "
            f"with a network run `hf download {repository}{at} --local-dir DIR`, copy DIR here and give it as the model"
        ) from error


def cached_model(name: str) -> Path | None:
    """Return the folder of a model in the hub's cache, None if it is not there. The hub is not contacted.

    Args:
        name: organisation/name or organisation/name@revision.
    """
    import huggingface_hub
    from huggingface_hub import errors

    match = _match(name)
    if match is None:
        return None
    try:
        return Path(
            huggingface_hub.snapshot_download(
                match["repository"],
                revision=match["revision"],
                allow_patterns=_DOWNLOADED,
                local_files_only=True,
                token=False,
            )
        )
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError):  # a miss is one of them
        return None


def _match(name: str) -> re.Match[str] | None:
    """Return the parts of a hub id; None for a name with "..", which would lead out of the cache."""
    return None if ".." in name else _ID.fullmatch(name)


def list_files_to_push(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the files of a model folder that are to be uploaded.

    Args:
        folder: The model folder.

    Returns:
        The files to upload, and everything else in the folder, both sorted.

    Raises:
        SourceError: One of the files to upload is a link or not a regular file.
    """
    entries = sorted(folder.iterdir())
    files = [path for path in entries if _PUSHED.fullmatch(path.name)]
    for path in files:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise SourceError(f"{path}: not a regular file: replace it by a copy, as links are not uploaded")
    return files, [path for path in entries if path not in files]


def push_model(files: Sequence[Path], repository: str, private: bool = False) -> str:
    """Upload a model to the hub.

    Args:
        files: Files of a model folder, as `list_files_to_push` returns them.
        repository: organisation/name; made if it does not exist.
        private: Make a new repository private.

    Returns:
        The URL of the repository.

    Raises:
        UnknownModel: The hub cannot be reached, denies access, or refuses the card.
    """
    import huggingface_hub
    from huggingface_hub import errors

    api = huggingface_hub.HfApi()
    operations = [huggingface_hub.CommitOperationAdd(path.name, path) for path in files]
    try:
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.create_commit(repository, operations, commit_message=_MESSAGE)
    except (errors.HTTPError, ValueError, OSError, ImportError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnknownModel(f"{repository}: cannot be uploaded ({reason}); sign in with `hf auth login`") from error
    return str(url)
