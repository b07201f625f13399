"""A Ray cluster for this machine and user alone: anybody who reaches its ports can run code on it."""

from __future__ import annotations

import ipaddress
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from clara_search.errors import ConfigError

_LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""If "0", Ray's processes listen on 127.0.0.1, which is the default on Windows and macOS only."""


@contextmanager
def private_cluster() -> Iterator[dict[str, Any]]:
    """Yield options of `ray.init` for a cluster on loopback, with a token and a private folder.

    On exit, after the cluster has ended, the folder is removed and the environment restored.
    """
    from ray._private import ray_constants

    # The folder for temporary files may be long, and the path of a socket has room for some 100 characters.
    short = "/tmp" if Path("/tmp").is_dir() else None
    folder = tempfile.TemporaryDirectory(prefix="ray-", dir=short, ignore_cleanup_errors=True)
    changes = {_LOOPBACK_SWITCH: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in changes}
    is_open = ray_constants.ENABLE_RAY_CLUSTER  # read from the environment when Ray was imported
    os.environ.update(changes)
    ray_constants.ENABLE_RAY_CLUSTER = False
    _reload_token()
    try:
        yield {"_temp_dir": f"{folder.name}/r"}  # which Ray opens to everyone
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = is_open
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _reload_token()
        folder.cleanup()


def check_private(address: str) -> None:
    """Raise ConfigError if a cluster listens at an `address` that others can reach."""
    if not ipaddress.ip_address(address).is_loopback:
        problem = f"this version of Ray listens at {address}, where others reach it"
        raise ConfigError(f"{problem}: start a cluster yourself, and give its address")


def _reload_token() -> None:
    """Let Ray read mode and token from the environment again: this process may have used another cluster."""
    raylet: Any = import_module("ray._raylet")
    with suppress(AttributeError):  # versions of Ray without tokens
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
