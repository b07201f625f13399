"""The calibration of a table on disk: `_calibration/<table>.json` of its database, derived and safe to delete."""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from clara_search.config import Between, check_bounds, from_file
from clara_search.errors import DatabaseError, FormatError
from clara_search.files import confined
from clara_search.files.json_reader import parse_object
from clara_search.retrieval.calibration.model import DEFAULTS, Calibration
from clara_search.store.table import Table

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
FOLDER = "_calibration"

_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class StoredCalibration:
    """What the file holds.

    Attributes:
        format_version: Version of the format.
        fingerprint: The encoder that embedded the rows.
        num_rows: Number of rows of the table when it was calibrated.
        directions: The calibrations, by direction.
    """

    format_version: int
    fingerprint: str
    num_rows: Annotated[int, Between(1, 1 << 40)]
    directions: dict[str, Calibration]

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.format_version != FORMAT_VERSION or not self.directions.keys() <= DEFAULTS.keys():
            raise ValueError(
                f"format {self.format_version} with {', '.join(self.directions) or 'nothing'} is not known"
            )


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
