"""The calibration of a table on disk: `_calibration/<table>.json` of its database, derived and safe to delete."""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc

from clara_search.config import Between, check_bounds, from_file
from clara_search.errors import DatabaseError, FormatError
from clara_search.files import confined
from clara_search.files.json_reader import parse_object
from clara_search.retrieval.calibration.model import DEFAULTS, Calibration
from clara_search.retrieval.snapshot import Snapshot
from clara_search.store.table import Table

log = logging.getLogger(__name__)

FORMAT_VERSION = 2
FOLDER = "_calibration"

_MAX_BYTES = 1 << 16
_SAMPLE = 32
_GROWTH = 1.25


@dataclass(frozen=True)
class StoredCalibration:
    """What the file holds.

    Attributes:
        format_version: Version of the format.
        fingerprint: The encoder that embedded the rows.
        num_rows: Number of rows of the table when it was calibrated.
        sample: Ids of some of them: another table may have taken the name since.
        directions: The calibrations, by direction.
    """

    format_version: int
    fingerprint: str
    num_rows: Annotated[int, Between(1, 1 << 40)]
    sample: tuple[str, ...]
    directions: dict[str, Calibration]

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.format_version != FORMAT_VERSION or not self.directions.keys() <= DEFAULTS.keys():
            raise ValueError(
                f"format {self.format_version} with {', '.join(self.directions) or 'nothing'} is not known"
            )

    def is_of(self, snapshot: Snapshot) -> bool:
        """Tell whether a table is still about the one that was calibrated: in size, and with half of its sample."""
        if not 1 / _GROWTH <= len(snapshot) / self.num_rows <= _GROWTH:
            return False
        found = pc.is_in(snapshot.columns["id"], value_set=pa.array(self.sample, pa.string()))
        return 2 * (pc.sum(found).as_py() or 0) >= max(1, len(set(self.sample)))

    @classmethod
    def empty(cls, snapshot: Snapshot) -> StoredCalibration:
        """Return that of a table that has yet to be calibrated."""
        step = max(1, len(snapshot) // _SAMPLE)
        sample = tuple(snapshot.columns["id"].to_pylist()[::step][:_SAMPLE])
        return cls(FORMAT_VERSION, snapshot.table.info.fingerprint, len(snapshot), sample, {})


def read(table: Table) -> StoredCalibration | None:
    """Return the calibration of a table; None if it has none, or one that is broken or of another encoder."""
    try:
        content = confined.read_bytes(table.connection.path, _path(table), _MAX_BYTES)
        if content is None:
            return None
        name = _path(table).name
        stored = from_file(StoredCalibration, parse_object(content, name), name)
    except (FormatError, DatabaseError) as error:
        log.warning("the calibration of table '%s' is made anew: %s", table.name, " ".join(str(error).split()))
        return None
    return stored if stored.fingerprint == table.info.fingerprint else None


def write(table: Table, stored: StoredCalibration) -> None:
    """Write the calibration of a table as a whole; where the database cannot be written, it is not kept."""
    root, path = table.connection.path, _path(table)
    try:
        folder = confined.make_folder(root, path.parent)
        temporary = folder / f"{uuid.uuid4().hex}.tmp"
        temporary.write_text(json.dumps(asdict(stored), indent=1, allow_nan=False), encoding="utf-8")
        confined.rename(root, temporary, path)
    except (DatabaseError, OSError) as error:
        log.info("the calibration of table '%s' is not kept: %s", table.name, error)


def _path(table: Table) -> Path:
    return table.connection.path / FOLDER / f"{table.name}.json"
