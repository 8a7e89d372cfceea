"""Writes the cells of a large image to files, tile by tile: tables and outlines."""

from __future__ import annotations

import itertools
import json
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from segjax.classical.measurements import Table
from segjax.files import atomic_write
from segjax.inference.exports.geojson import feature
from segjax.inference.exports.geoparquet import geo_metadata, well_known_binary
from segjax.inference.exports.marks import NAMESPACE, SOFTWARE
from segjax.inference.large.cells import LargeCells
from segjax.inference.tables import with_units, without_formulas

# Entry of a Parquet file's metadata: the side of a pixel that was segmented, in pixels of the finest level.
SIDE = "side_of_pixel_in_finest_level"


def write_csv(cells: LargeCells, path: Path) -> None:
    """Writes the measurements as CSV, a row for each cell."""
    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        rows = (without_formulas(pa.table(table)) for table in cells.tables())
        first = next(rows)
        with csv.CSVWriter(file, first.schema) as writer:
            for table in itertools.chain([first], rows):
                writer.write_table(table)


def write_parquet(cells: LargeCells, path: Path) -> None:
    """Writes measurements and outlines as GeoParquet, a row for each cell.

    Outlines are in pixels of the image file's finest level, as in GeoJSON, and columns in those of the image
    that was segmented. The metadata state the side of the latter in pixels of the finest level.
    """
    outlines = cells.outlines()
    metadata = geo_metadata() | {SIDE: json.dumps(cells.to_file)}

    def with_geometry(table: Table) -> pa.Table:
        polygons = itertools.islice(outlines, len(table["id"]))
        scaled = (_scaled(one, cells.to_file) for _, one in polygons)
        shapes = pa.array(map(well_known_binary, scaled), pa.binary())
        return with_units(pa.table({**table, "geometry": shapes})).replace_schema_metadata(metadata)

    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        rows = map(with_geometry, cells.tables())
        first = next(rows)
        with parquet.ParquetWriter(file, first.schema) as writer:
            for table in itertools.chain([first], rows):
                writer.write_table(table)


def write_geojson(cells: LargeCells, path: Path) -> None:
    """Writes a feature for each cell, in pixels of the image file's finest level; see `exports.geojson`."""
    stitched, image_id = cells.composition.stitched, uuid.uuid5(NAMESPACE, cells.name)
    with atomic_write(path) as tmp_path, tmp_path.open("w", encoding="utf-8") as file:
        file.write(f'{{"type":"FeatureCollection","software":"{SOFTWARE}","features":[')
        for cell, polygons in cells.outlines():
            index = int(stitched.classes[cell])
            content = feature(
                str(uuid.uuid5(image_id, str(cell + 1))),
                _scaled(polygons, cells.to_file),
                {"label": cell + 1, "score": round(float(stitched.scores[cell]), 6)},
                {"name": cells.measuring.class_names[index], "color": list(cells.colour_of(index))},
            )
            file.write(",\n" if cell else "\n")
            file.write(json.dumps(content, separators=(",", ":")))
        file.write("\n]}\n")


def _scaled(polygons: list[list[np.ndarray]], factor: float) -> list[list[np.ndarray]]:
    if factor == 1:
        return polygons
    return [[np.round(ring * factor, 3) for ring in polygon] for polygon in polygons]
