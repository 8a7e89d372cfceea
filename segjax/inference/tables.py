"""Writes measurements to tables that spreadsheets, pandas and R open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from segjax.errors import InputError
from segjax.files import atomic_write, spreadsheet_text

# Unit by the last part of a column's name.
UNITS = {"px": "pixel", "um": "micrometre", "um2": "square micrometre", "rad": "radian"}


def write_table(tables: Sequence[Mapping[str, np.ndarray]], path: str | Path) -> None:
    """Writes tables below each other into one file, atomically.

    Args:
      tables: each maps column names to values of equal length. A column that only some tables have is empty
        in the others; columns keep the order in which they first occur.
      path: ends in .csv or .parquet. In CSV, texts that spreadsheets take for formulas begin with an
        apostrophe. Parquet has the unit of a column in the column's metadata.

    Raises:
      InputError: if the path has another ending.
      OSError: if the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path} cannot be written: a table ends in .csv or .parquet")
    parts = [pa.table({name: pa.array(values) for name, values in table.items()}) for table in tables]
    table = pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})
    # Arrow opens only files whose path is UTF-8.
    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        if path.suffix == ".csv":
            csv.write_csv(without_formulas(table), file)
        else:
            parquet.write_table(with_units(table), file)


def with_units(table: pa.Table) -> pa.Table:
    """Returns a table whose columns have their unit in their metadata."""
    return table.cast(pa.schema(map(_with_unit, table.schema)))


def without_formulas(table: pa.Table) -> pa.Table:
    """Returns a table whose texts spreadsheets do not take for formulas."""
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            cells = [cell and spreadsheet_text(cell) for cell in table[field.name].to_pylist()]
            table = table.set_column(index, field.name, pa.array(cells, pa.string()))
    return table


def _with_unit(field: pa.Field) -> pa.Field:
    # The length in `neighbours_within_20_um` is the radius; the column is a count.
    unit = "" if field.name.startswith("neighbours_") else field.name.rpartition("_")[2]
    return field.with_metadata({"unit": UNITS[unit]}) if unit in UNITS else field
