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
    """Writes a feature for each cell: outline, class with its colour, score, id; pixel edges at integers."""
    image_id = uuid.uuid5(NAMESPACE, cells.name)
    with atomic_write(path) as tmp_path, tmp_path.open("w", encoding="utf-8") as file:
        file.write(f'{{"type":"FeatureCollection","software":"{SOFTWARE}","features":[')
        for index, polygons in enumerate(cells.outlines):
            feature = {
                "type": "Feature",
                "id": str(uuid.uuid5(image_id, str(index + 1))),
                "geometry": _geometry(polygons),
                "properties": _properties(cells, index),
            }
            file.write(",\n" if index else "\n")
            file.write(json.dumps(feature, separators=(",", ":")))
        file.write("\n]}\n")


def _geometry(polygons: list[Polygon]) -> dict[str, Any]:
    rings = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in polygons]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _properties(cells: Cells, index: int) -> dict[str, Any]:
    measurements = {"label": index + 1, "score": round(float(cells.segmentation.scores[index]), 6)}
    if cells.cell_uncertainty is not None:
        measurements["uncertainty"] = round(float(cells.cell_uncertainty[index]), 6)
    colour = cells.colour_of(int(cells.segmentation.classes[index]))
    return {
        "objectType": "detection",
        "classification": {"name": cells.class_of(index), "color": list(colour)},
        "measurements": measurements,
    }
