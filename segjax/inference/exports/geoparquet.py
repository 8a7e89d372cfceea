"""Outlines and measurements as GeoParquet, which GeoPandas, DuckDB and sopa open."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from segjax.files import atomic_write
from segjax.inference.exports.cells import Cells
from segjax.inference.exports.marks import SOFTWARE
from segjax.inference.polygons import Polygon
from segjax.inference.tables import with_units

# Headers of well-known binary (WKB): 1 for little-endian, then the number of the geometry type.
POLYGON, MULTI_POLYGON = struct.pack("<BI", 1, 3), struct.pack("<BI", 1, 6)


def write_geoparquet(cells: Cells, path: Path) -> None:
    """Writes a row for each cell: the columns of its measurements, and `geometry` in pixels as WKB."""
    outlines = [well_known_binary(polygons) for polygons in cells.outlines]
    columns = {name: pa.array(values) for name, values in cells.table.items()}
    table = with_units(pa.table({**columns, "geometry": pa.array(outlines, pa.binary())}))
    table = table.replace_schema_metadata(geo_metadata())
    # Arrow opens only files whose path is UTF-8.
    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        parquet.write_table(table, file)


def geo_metadata() -> dict[str, str]:
    """Returns the metadata of a table with the column `geometry`."""
    # There is no coordinate reference system, because pixels are not positions on the earth.
    column = {"encoding": "WKB", "geometry_types": ["Polygon", "MultiPolygon"], "crs": None}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    return {"geo": json.dumps(geo), "software": SOFTWARE}


def well_known_binary(polygons: list[Polygon]) -> bytes:
    """Returns the polygons of a cell as well-known binary."""
    parts = [_part(polygon) for polygon in polygons]
    if len(parts) == 1:
        return parts[0]
    return b"".join([MULTI_POLYGON, struct.pack("<I", len(parts)), *parts])


def _part(polygon: Polygon) -> bytes:
    parts = [POLYGON, struct.pack("<I", len(polygon))]
    for ring in polygon:
        points = ring.astype("<f8").tobytes()
        # Each ring ends with its first vertex.
        parts += [struct.pack("<I", len(ring) + 1), points, points[:16]]
    return b"".join(parts)
