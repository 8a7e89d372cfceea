"""Outlines as GeoJSON, which QuPath opens."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from segjax.files import atomic_write
from segjax.inference.exports.cells import Cells
from segjax.inference.exports.marks import NAMESPACE, SOFTWARE
from segjax.inference.polygons import Polygon


def write_geojson(cells: Cells, path: Path) -> None:
    """Writes a feature for each cell: its outline, id, score, and class with a colour.

    Coordinates are `(x, y)` in pixels, with pixel edges at integers.
    """
    image_id = uuid.uuid5(NAMESPACE, cells.name)
    with atomic_write(path) as tmp_path, tmp_path.open("w", encoding="utf-8") as file:
        file.write(f'{{"type":"FeatureCollection","software":"{SOFTWARE}","features":[')
        for index, polygons in enumerate(cells.outlines):
            colour = cells.colour_of(int(cells.segmentation.classes[index]))
            content = feature(
                str(uuid.uuid5(image_id, str(index + 1))),
                polygons,
                _measurements(cells, index),
                {"name": cells.class_of(index), "color": list(colour)},
            )
            file.write(",\n" if index else "\n")
            file.write(json.dumps(content, separators=(",", ":")))
        file.write("\n]}\n")


def feature(
    identifier: str, polygons: list[Polygon], measurements: dict[str, Any], classification: dict[str, Any]
) -> dict[str, Any]:
    """Returns a cell as a GeoJSON feature; each ring ends with its first point."""
    rings = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in polygons]
    single = {"type": "Polygon", "coordinates": rings[0]}
    return {
        "type": "Feature",
        "id": identifier,
        "geometry": single if len(rings) == 1 else {"type": "MultiPolygon", "coordinates": rings},
        "properties": {
            "objectType": "detection",
            "classification": classification,
            "measurements": measurements,
        },
    }


def _measurements(cells: Cells, index: int) -> dict[str, Any]:
    measurements = {"label": index + 1, "score": round(float(cells.segmentation.scores[index]), 6)}
    if cells.cell_uncertainty is not None:
        measurements["uncertainty"] = round(float(cells.cell_uncertainty[index]), 6)
    return measurements
