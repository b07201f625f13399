"""Changes of a file's bytes: those that a format's reader believes most, sizes and ends, come up most."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence

from benchmarks.fuzzing.json_mutations import mutate_json

Mutation = Callable[[bytes, random.Random], bytes]

_EXTREMES: tuple[int, ...] = (0, 1, -1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_EXTREMES += (1 << 33, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_WRITTEN_NUMBERS = (b"0", b"-1", b"1e999", b"-0.0", b"nan", b"9" * 40, b"1e-9", b"4294967296", b"0x10", b"")
_EDGE = 1024
"""Bytes at the start and at the end of a file, where formats keep their sizes."""


def mutate(content: bytes, name: str, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Return a file changed once.

    Args:
        content: The file.
        name: Its name; JSON is also changed as JSON.
        others: Files to take pieces from.
        rng: Decides everything.

    Returns:
        The changed file, which may be empty, and may happen to be the same.
    """
    if name.endswith((".json", ".jsonl")) and rng.random() < 0.7:
        return mutate_json(content, rng)
    if name.endswith(".safetensors") and rng.random() < 0.6:
        return _mutate_header(content, rng)
    if others and rng.random() < 0.08:
        return _splice(content, rng.choice(others), rng)
    return rng.choice(_MUTATIONS)(content, rng)


def repair_tar(content: bytes) -> bytes:
    """Return a tar file with right checksums in its headers, as far as they can be followed."""
    fixed, at = bytearray(content), 0
    while at + 512 <= len(fixed) and any(fixed[at : at + 512]):
        fixed[at + 148 : at + 156] = b" " * 8
        fixed[at + 148 : at + 156] = b"%06o\0 " % sum(fixed[at : at + 512])
        digits = bytes(fixed[at + 124 : at + 136]).strip(b" \0")
        size = int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else 0
        at += 512 + (size + 511) // 512 * 512
    return bytes(fixed)


def repair_ogg(content: bytes) -> bytes:
    """Return an Ogg file with right checksums of its pages."""
    pages = re.split(rb"(?=OggS)", content)
    fixed = []
    for page in pages:
        if page.startswith(b"OggS") and len(page) >= 27:
            bare = page[:22] + bytes(4) + page[26:]
            page = bare[:22] + struct.pack("<I", _ogg_checksum(bare)) + bare[26:]
        fixed.append(page)
    return b"".join(fixed)


def _ogg_checksum(page: bytes) -> int:
    """Return the checksum of an Ogg page: CRC-32 of zlib's polynomial, its bits the other way round."""
    mirrored = page.translate(_MIRRORED)
    value = zlib.crc32(mirrored, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _position(content: bytes | bytearray, rng: random.Random) -> int:
    size = max(1, len(content))
    kind = rng.random()
    if kind < 0.35:
        return rng.randrange(min(size, _EDGE // 4))
    if kind < 0.65:
        return rng.randrange(max(0, size - _EDGE), size)
    return rng.randrange(size)


def _put(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[_position(changed, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set_integer(content: bytes, rng: random.Random) -> bytes:
    width, value = rng.choice((1, 2, 4, 4, 8)), rng.choice((*_EXTREMES, len(content), rng.getrandbits(16)))
    order: str = rng.choice(("little", "big"))
    encoded = (value % (1 << 8 * width)).to_bytes(width, "little" if order == "little" else "big")
    return _put(content, _position(content, rng), encoded)


def _set_varint(content: bytes, rng: random.Random) -> bytes:
    """Write a number as Thrift and protocol buffers do."""
    value, encoded = rng.choice(_EXTREMES) % (1 << 64), b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    at = _position(content, rng)
    return content[:at] + encoded + bytes([value]) + content[at + 1 :]


def _set_digits(content: bytes, rng: random.Random) -> bytes:
    """Replace a written number."""
    found = list(_NUMBER.finditer(content[: 1 << 16]))
    if not found:
        return _set_integer(content, rng)
    match = rng.choice(found)
    return content[: match.start()] + rng.choice(_WRITTEN_NUMBERS) + content[match.end() :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _delete(content: bytes, rng: random.Random) -> bytes:
    at = _position(content, rng)
    return content[:at] + content[at + rng.choice((1, 2, 4, 16, 512)) :]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    at, size = _position(content, rng), rng.choice((1, 4, 16, 512))
    return content[:at] + content[at : at + size] * rng.choice((2, 3, 50)) + content[at + size :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = _position(content, rng)
    inserted = rng.choice(
        (b"\0", b"\n", b'"', b"\xff\xfe", b"\xed\xa0\x80", b"\x1b]52;c;x\x07", b"..", rng.randbytes(8))
    )
    return content[:at] + inserted * rng.choice((1, 1, 300)) + content[at:]


def _blank(content: bytes, rng: random.Random) -> bytes:
    return _put(content, _position(content, rng), bytes([rng.choice((0, 0xFF))]) * rng.choice((4, 16, 64)))[
        : len(content)
    ]


def _splice(content: bytes, other: bytes, rng: random.Random) -> bytes:
    at, start = _position(content, rng), _position(other, rng)
    return content[:at] + other[start : start + rng.choice((8, 64, 1024))] + content[at + rng.choice((0, 8, 64)) :]


def _mutate_header(content: bytes, rng: random.Random) -> bytes:
    """Change the JSON of a safetensors file, and keep its length right."""
    length = int.from_bytes(content[:8], "little")
    header = mutate_json(content[8 : 8 + length], rng)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


_MUTATIONS: tuple[Mutation, ...] = (
    *(_flip, _flip, _set_integer, _set_integer, _set_integer, _set_varint, _set_digits),
    *(_cut, _delete, _repeat, _insert, _blank),
)
