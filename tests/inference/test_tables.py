import csv

import numpy as np
import pyarrow.parquet
import pytest

from segjax.classical.measurements import measure
from segjax.errors import InputError
from segjax.inference.neighbours import Radius
from segjax.inference.tables import write_table
from segjax.segmentation import Segmentation

LABELS = np.zeros((20, 20), int)
LABELS[2:8, 2:8], LABELS[10:15, 9:18] = 1, 2
NAMES = ("background", "nucleus")
TABLE = measure(
    np.arange(400.0).reshape(20, 20, 1), Segmentation.from_labels(LABELS), pixel_size=0.25, class_names=NAMES
)


def test_csv_holds_every_number(tmp_path):
    write_table([TABLE], tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(TABLE)
    assert [float(row["area_um2"]) for row in rows] == [36 / 16, 45 / 16]
    assert [row["class_name"] for row in rows] == ["nucleus", "nucleus"]
    for name, column in TABLE.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose([float(row[name]) for row in rows], column)


def test_parquet_knows_types_and_units(tmp_path):
    write_table([TABLE], tmp_path / "table.parquet")
    read = pyarrow.parquet.read_table(tmp_path / "table.parquet")
    assert read.column_names == list(TABLE)
    np.testing.assert_array_equal(read["mean_0"].to_numpy(), TABLE["mean_0"])
    assert read.schema.field("area_um2").metadata == {b"unit": b"square micrometre"}
    assert read.schema.field("perimeter_px").metadata == {b"unit": b"pixel"}
    assert not read.schema.field("mean_0").metadata


def test_a_count_has_no_unit(tmp_path):
    columns = {Radius.parse(text).column: np.zeros(2, np.int32) for text in ("20um", "40px")}
    write_table([{**TABLE, **columns}], tmp_path / "table.parquet")
    read = pyarrow.parquet.read_table(tmp_path / "table.parquet")
    assert len(columns) == 2
    assert not any(read.schema.field(name).metadata for name in columns)


def test_tables_with_other_channels_stand_below_each_other(tmp_path):
    two = measure(np.zeros((20, 20, 2)), Segmentation.from_labels(LABELS), class_names=NAMES)
    none = measure(np.zeros((20, 20, 1)), Segmentation.empty((20, 20)), class_names=NAMES)
    write_table([none, TABLE, two], tmp_path / "table.parquet")
    read = pyarrow.parquet.read_table(tmp_path / "table.parquet").to_pydict()
    assert read["area_px"] == [36, 45, 36, 45]
    assert read["mean_1"] == [None, None, 0, 0]
    assert read["area_um2"][2:] == [None, None]
    assert {path.name for path in tmp_path.iterdir()} == {"table.parquet"}


def test_nothing_is_a_table_as_well(tmp_path):
    write_table([], tmp_path / "table.csv")
    assert (tmp_path / "table.csv").exists()
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        write_table([TABLE], tmp_path / "table.xls")
