"""Questions to stores of other machines: asked again when they fail, every error of a client brought to `OSError`."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar, cast

from clara_search.errors import ClaraError, SourceError, first_line
from clara_search.files.limits import HTTP_SECONDS
from clara_search.files.network.access import RefusedAddress
from clara_search.files.network.options import hint

_ATTEMPTS = 3
"""A store that answers with an error is asked again, unless the error says that there is nothing, or no permission."""

_FIRST_RETRY_S = 0.2

_PATIENCE_S = 5.0
"""Whoever takes this long to fail has asked again itself, as the client of S3 does."""

_ABSENT = (404, 410)

T = TypeVar("T")


def ask_store(path: str | Path, question: Callable[[], T]) -> T:
    """Return the answer of another machine; when it fails it is asked up to three times.

    Args:
        path: The URL, for errors.
        question: A call of the store's client.

    Raises:
        OSError: The store does not answer. A FileNotFoundError is its own answer that there is nothing.
        SourceError: No client is installed that knows the protocol, or it refuses the URL.
    """
    began = time.monotonic()
    for attempt in range(_ATTEMPTS):
        try:
            return question()
        except ClaraError:
            raise
        except PermissionError as error:
            if (remedy := hint(str(path))) and remedy not in str(error):
                raise PermissionError(None, f"{_reason(error)}{remedy}") from error
            raise
        except (ImportError, ValueError) as error:
            raise SourceError(f"{path}: cannot be opened ({first_line(error)})") from error
        except Exception as error:  # each store's client has a tree of exceptions of its own
            if (refused := _refused(error)) is not None:
                raise SourceError(f"{path}: is not opened: {refused.strerror}") from error
            if isinstance(error, FileNotFoundError) and _says_absent(error):
                if str(error) == str(path):  # no more than the URL
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
                raise
            if attempt == _ATTEMPTS - 1 or time.monotonic() - began > _PATIENCE_S:
                raise OSError(None, _reason(error)) from error
            time.sleep(_FIRST_RETRY_S * 2**attempt)
    raise AssertionError


def _says_absent(error: BaseException) -> bool:
    """Tell whether all that led to `error` says that there is nothing, as against a store that did not answer."""
    status = _http_status(error)
    if status is not None:
        return status in _ABSENT
    cause = error.__cause__ or error.__context__
    is_answer = isinstance(error, (FileNotFoundError, NotADirectoryError, LookupError, StopIteration))
    return is_answer and (cause is None or _says_absent(cause))


def _refused(error: BaseException | None) -> RefusedAddress | None:
    """Return the refusal that led to `error`, if one did."""
    while error is not None and not isinstance(error, RefusedAddress):
        error = error.__cause__ or error.__context__
    return error


def _reason(error: BaseException) -> str:
    while isinstance(error, FileNotFoundError) and (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error_reason(error)


def error_reason(error: BaseException) -> str:
    """Return why a file or store cannot be read, on one line."""
    if isinstance(error, TimeoutError) and not error.strerror:
        return f"no complete answer within {HTTP_SECONDS.value:,} s"
    if (status := _http_status(error)) is not None and str(error).startswith(f"{status}, "):  # aiohttp's, with the URL
        return f"{status} {getattr(error, 'message', '')}".strip()
    return (error.strerror if isinstance(error, OSError) else None) or first_line(error)


def _http_status(error: BaseException) -> int | None:
    """Return the status of the HTTP response that `error` reports, as the clients of the stores keep it."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        return cast(int | None, response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    for holder in (error, response):
        for name in ("status", "status_code", "code"):
            if isinstance(value := getattr(holder, name, None), int):
                return value
    return None
