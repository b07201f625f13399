"""A Ray cluster of this machine and this user alone: whoever reaches its ports could have any code run."""

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
"""Off, Ray's processes listen on 127.0.0.1: the default of two systems, and on the others all interfaces are."""


@contextmanager
def private_cluster() -> Iterator[dict[str, Any]]:
    """Yield options of `ray.init` for a cluster on loopback, with a token and a folder that nobody else can enter.

    To be left when the cluster has ended: then the folder goes, and the environment is as it was.
    """
    from ray._private import ray_constants

    # Not the one for temporary files, which may be long: the path of a socket has room for some 100 characters.
    short = "/tmp" if Path("/tmp").is_dir() else None
    folder = tempfile.TemporaryDirectory(prefix="ray-", dir=short, ignore_cleanup_errors=True)
    changes = {_LOOPBACK_SWITCH: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in changes}
    is_open = ray_constants.ENABLE_RAY_CLUSTER  # read from the environment when Ray was imported
    os.environ.update(changes)
    ray_constants.ENABLE_RAY_CLUSTER = False
    _read_token_again()
    try:
        yield {"_temp_dir": f"{folder.name}/r"}  # which Ray opens to everyone
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = is_open
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_token_again()
        folder.cleanup()


def check_private(address: str) -> None:
    """Raise ClaraError where a cluster that was started listens at an `address` that others reach."""
    if not ipaddress.ip_address(address).is_loopback:
        raise ConfigError(
            f"this version of Ray listens at {address}, where others reach it: start a cluster, --address"
        )


def _read_token_again() -> None:
    """Have Ray take mode and token from the environment as it is now: this process may have had another cluster."""
    raylet: Any = import_module("ray._raylet")
    with suppress(AttributeError):  # versions of Ray without tokens
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
