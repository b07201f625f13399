"""URLs without credentials: the form that is stored, shown and compared."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import unquote_plus

_WITH_USER = frozenset({"http", "https", "ftp", "sftp", "ssh", "smb", "webdav", "s3", "s3a"})
"""Protocols whose "@" ends a user name. Not those of Azure, where it separates container and account."""

_WITH_KEYS = frozenset({"s3", "s3a"})
_KEYS = re.compile(r"[^/@:?#]*:[^@:?#]*@")
"""A key and its secret before a bucket: the secret may hold a "/"."""

_SECRET_PREFIXES = ("x-amz-", "x-goog-", "x-oss-", "x-obs-", "q-sign", "q-ak", "q-key")
_SECRETS = frozenset(
    "signature sig password passwd awsaccesskeyid googleaccessid ossaccesskeyid key-pair-id hdnts hdnea".split()
)
_TOKENS = frozenset("token access_token auth_token id_token auth authorization api_key apikey api-key".split())
"""These may be the only difference between the URLs of two recordings: they are replaced by a digest."""

_SIGNATURES = frozenset({"signature", "sig"})
_BESIDE_A_SIGNATURE = frozenset(
    "expires policy hash-algorithm se st sp sr sv ss srt spr sip ske skt sks skv skoid sktid saoid suoid".split()
)
"""Parameters that CloudFront, Google and Azure sign; without a signature they may mean something else."""

_DIGEST = re.compile("~[0-9a-f]{8}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def without_credentials(url: str) -> str:
    """Return a URL, or a chain of them, without user, password and signature; anything else as it is.

    A URL that is signed again thus keeps its form. A token is replaced by its digest; all other parameters stay, in
    their order.
    """
    if "://" not in url:
        return url
    return "::".join(_public(part) if "://" in part else part for part in url.split("::"))


def redact(text: str) -> str:
    """Return a message with the URLs in it without credentials."""
    return _URL.sub(lambda url: without_credentials(url.group()), text) if "://" in text else text


def _public(url: str) -> str:
    protocol, _, rest = url.partition("://")
    if protocol.lower() in _WITH_KEYS:
        rest = _KEYS.sub("", rest, count=1) if _KEYS.match(rest) else rest
    rest, hash_sign, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    host, slash, path = rest.partition("/")
    if protocol.lower() in _WITH_USER:
        host = host.rpartition("@")[2]
    query = _public_query(query)
    return f"{protocol}://{host}{slash}{path}{'?' if query else ''}{query}{hash_sign}{fragment}"


def _public_query(query: str) -> str:
    """Return a query without credentials. Its parameters are neither decoded nor reordered."""
    parts = [(unquote_plus(part.partition("=")[0]).lower(), part) for part in re.split("[&;]", query) if part]
    is_signed = any(name in _SIGNATURES for name, _ in parts)
    public = [(name, part) for name, part in parts if not _gives_access(name, is_signed)]
    return "&".join(_digested(part) if name in _TOKENS else part for name, part in public)


def _gives_access(name: str, is_signed: bool) -> bool:
    is_part_of_signature = is_signed and name in _BESIDE_A_SIGNATURE
    return is_part_of_signature or name in _SECRETS or name.startswith(_SECRET_PREFIXES)


def _digested(part: str) -> str:
    name, _, value = part.partition("=")
    return part if _DIGEST.fullmatch(value) else f"{name}=~{hashlib.sha256(value.encode()).hexdigest()[:8]}"
