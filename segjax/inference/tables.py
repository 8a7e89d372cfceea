"""Writes measurements to tables that spreadsheets, pandas and R open."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from segjax.errors import InputError

# What the last part of a column's name says.
UNITS = {"px": "pixel", "um": "micrometre", "um2": "square micrometre", "rad": "radian"}


def write_table(tables: Sequence[Mapping[str, np.ndarray]], path: str | Path) -> None:
    """Writes tables below each other, whole or not at all.

    Args:
      tables: each maps names of columns to values of equal length. A column that only some have is empty in
        the others; columns keep the order in which they first occur.
      path: ends in .csv or .parquet. In Parquet every column with a unit says so in its metadata.

    Raises:
      InputError: if the ending is another.
    """
    path = Path(path)
    made = [pa.table({name: pa.array(values) for name, values in table.items()}) for table in tables]
    whole = pa.concat_tables(made, promote_options="permissive") if made else pa.table({})
    draft = path.with_name(f".{path.name}.tmp")
    if path.suffix == ".csv":
        csv.write_csv(whole, draft)
    elif path.suffix == ".parquet":
        fields = [
            field.with_metadata({"unit": UNITS[unit]}) if (unit := _unit(field.name)) in UNITS else field
            for field in whole.schema
        ]
        parquet.write_table(whole.cast(pa.schema(fields)), draft)
    else:
        raise InputError(f"{path} cannot be written: a table ends in .csv or .parquet")
    os.replace(draft, path)


def _unit(name: str) -> str:
    return name.rpartition("_")[2]
