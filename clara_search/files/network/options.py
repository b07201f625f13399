"""The options of fsspec's file systems: the user's credentials only for what the user typed."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

from clara_search.errors import SourceError
from clara_search.files.limits import HTTP_SECONDS
from clara_search.files.network import access

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")

_AZURE_KEYS = ("ACCOUNT_KEY", "CONNECTION_STRING", "SAS_TOKEN", "CLIENT_SECRET")


def storage_options(url: str) -> dict[str, Any]:
    """Return the options of fsspec's file system for a URL that is no chain.

    Raises:
        SourceError: The store of a URL that was not typed cannot be read without the user's credentials.
    """
    protocol = url.partition("://")[0].lower()
    protocol = access.SAME_STORE.get(protocol, protocol)
    typed = access.is_typed(url)
    if protocol in access.PORTS:
        from clara_search.files.network.http import client_of

        client = client_of(typed, access.state().private, HTTP_SECONDS.value)
        # Explicitly nothing: fsspec's own configuration files may hold credentials.
        nothing: dict[str, Any] = {} if typed else {"client_kwargs": {}, "headers": {}, "auth": None, "cookies": None}
        return {"get_client": client, **nothing}
    if typed:
        return {}
    if protocol in ("s3", "gs") and not _BUCKET.fullmatch(url.partition("://")[2].partition("/")[0]):
        raise SourceError(f"{url}: names no bucket")
    if protocol == "s3":
        return {"anon": True, "key": None, "secret": None, "token": None, "client_kwargs": {}}
    if protocol == "gs":
        return {"token": "anon"}
    if protocol == "az":  # its client reads keys from the environment, whatever it is told
        if any(os.environ.get(f"AZURE_STORAGE_{name}") for name in _AZURE_KEYS):
            raise SourceError(f"{url}: would be read with your keys of Azure, and data names it: {_remedy(url)}")
        return {"anon": True, "account_key": None, "connection_string": None, "sas_token": None, "credential": None}
    return {}


def hint(url: str) -> str:
    """Return what the error of a denied request has to add; "" for a URL that was read with the user's credentials."""
    protocol = url.partition("://")[0].lower()
    is_store = access.SAME_STORE.get(protocol, protocol) in ("s3", "gs", "az")
    is_anonymous = is_store and "::" not in url and not access.is_typed(url)
    return f"; it was read without your credentials, as data names it: {_remedy(url)}" if is_anonymous else ""


def _remedy(url: str) -> str:
    return f"give `trust` {url.partition('://')[0]}://{urlsplit(url).netloc.rpartition('@')[2]} if they are for it"
