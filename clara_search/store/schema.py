"""The schema of a corpus table: its columns, and in its metadata the encoder and the windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from clara_search.errors import DatabaseError
from clara_search.files.limits import AUDIO_SECONDS, EMBEDDING_DIM
from clara_search.models.recorded import RecordedModel

if TYPE_CHECKING:
    import pyarrow as pa

    from clara_search.models.base import Encoder

FORMAT_VERSION = 1
CORE_COLUMNS = ("id", "kind", "uri", "start_s", "end_s", "text", "language", "content_hash", "vector")

SPOKEN_WORDS = "spoken_words"
"""The column of transcripts: a list of words with `word`, `start_s`, `end_s` and `probability`, by time."""

_METADATA_PREFIX = "clara."
_LONGEST_NAME = 4096
_SHORTEST_HOP_S = 1e-3


@dataclass(frozen=True)
class TableInfo:
    """The encoder and the windows of a table.

    Attributes:
        model: The encoder that built the table, as the table records it.
        dim: Length of its vectors.
        window_s: Length of the windows that recordings are cut into, in seconds.
        hop_s: Seconds between the starts of windows.
        format_version: Version of the table's schema.
        relative_to: The folder that names of recordings are relative to, itself relative to that of the database; "":
            names are absolute.
    """

    model: RecordedModel
    dim: int
    window_s: float
    hop_s: float
    format_version: int = FORMAT_VERSION
    relative_to: str = ""

    @classmethod
    def of(cls, encoder: Encoder, window_s: float, hop_s: float) -> Self:
        """Return the metadata of a table of `encoder`, with windows of `window_s` every `hop_s` seconds."""
        return cls(RecordedModel(encoder.name, encoder.fingerprint), encoder.dim, window_s, hop_s)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder."""
        return self.model.fingerprint


def corpus_schema(info: TableInfo, extra_fields: Sequence[pa.Field]) -> pa.Schema:
    """Return the Arrow schema of a corpus table, with `info` in its metadata.

    Args:
        info: The encoder and the windows.
        extra_fields: Further columns.

    Returns:
        The schema.
    """
    import pyarrow as pa

    types = {"start_s": pa.float64(), "end_s": pa.float64(), "vector": pa.list_(pa.float32(), info.dim)}
    required = {"id", "kind", "uri", "content_hash", "vector"}
    core = [pa.field(name, types.get(name, pa.string()), nullable=name not in required) for name in CORE_COLUMNS]
    values = {"encoder": info.model.name, "fingerprint": info.fingerprint, **asdict(info)}
    metadata = {_METADATA_PREFIX + name: str(value) for name, value in values.items() if name != "model"}
    return pa.schema([*core, *extra_fields], metadata=metadata)


def read_info(schema: pa.Schema, where: str) -> TableInfo:
    """Return the encoder and the windows in the metadata of a schema.

    Args:
        schema: The Arrow schema.
        where: The table, for errors.

    Returns:
        The encoder and the windows.

    Raises:
        DatabaseError: The table is of a later format, or is no corpus table.
    """
    try:
        entries = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        version = int(entries[_METADATA_PREFIX + "format_version"])
        if version > FORMAT_VERSION:
            raise DatabaseError(
                f"{where} has format {version}, this clara-search reads up to {FORMAT_VERSION}: update it"
            )
        info = TableInfo(
            model=RecordedModel(entries[_METADATA_PREFIX + "encoder"], entries[_METADATA_PREFIX + "fingerprint"]),
            dim=int(entries[_METADATA_PREFIX + "dim"]),
            window_s=float(entries[_METADATA_PREFIX + "window_s"]),
            hop_s=float(entries[_METADATA_PREFIX + "hop_s"]),
            format_version=version,
            relative_to=entries.get(_METADATA_PREFIX + "relative_to", ""),
        )
    except KeyError as error:
        raise DatabaseError(f"{where} was not made by clara-search (its schema lacks {error})") from error
    except ValueError as error:
        raise DatabaseError(f"{where} was not made by clara-search (its metadata are broken: {error})") from error
    _check_info(info, schema, where)
    return info


def _check_info(info: TableInfo, schema: pa.Schema, where: str) -> None:
    """Raise DatabaseError for metadata that no run writes, or that are at odds with the columns."""
    import pyarrow as pa

    problem = None
    if max(len(info.model.name), len(info.fingerprint), len(info.relative_to)) > _LONGEST_NAME:
        problem = "its encoder has a name without end"
    elif info.format_version < 1 or "\0" in info.relative_to:
        problem = f"its metadata say format {info.format_version} and names relative to {info.relative_to!r}"
    elif not _SHORTEST_HOP_S <= info.hop_s <= info.window_s:
        problem = f"its windows are of {info.window_s:g} s every {info.hop_s:g} s"
    elif missing := [name for name in CORE_COLUMNS if name not in schema.names]:
        problem = f"it has no column '{missing[0]}'"
    elif info.dim < 1 or schema.field("vector").type != pa.list_(pa.float32(), info.dim):
        problem = f"its vectors are {schema.field('vector').type}, and its metadata say {info.dim} numbers"
    if problem is not None:
        raise DatabaseError(f"{where} was not made by clara-search: {problem}")
    EMBEDDING_DIM.check(info.dim, where, DatabaseError)
    AUDIO_SECONDS.check(info.window_s, where, DatabaseError)
