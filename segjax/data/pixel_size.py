"""Pixel size from TIFF metadata."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from segjax.data.readers import TIFF_SUFFIXES, File

# Both micro signs, and the escape sequence that ImageJ writes.
MICROMETRES = {
    **dict.fromkeys(
        ("um", "\N{MICRO SIGN}m", "\N{GREEK SMALL LETTER MU}m", "\\u00B5m", "\\u00b5m", "micron", "microns"),
        1.0,
    ),
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": 25_400.0,
}
# Largest OME-XML text that is parsed, in characters.
MAX_XML = 2**24


def read_pixel_size(path: str | File) -> float | None:
    """Reads the pixel size of an image file.

    Supports OME-XML, ImageJ's description and MetaMorph's plane information. The resolution tag of a TIFF is
    ignored: most programs write 72 or 300 dots per inch there regardless of the microscope.

    Args:
      path: image file; only .tif and .tiff carry a pixel size.

    Returns:
      Micrometres, or None if the file has no pixel size, has pixels that are not square, or is unreadable.
    """
    path = Path(path) if isinstance(path, str) else path
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return None
    try:
        with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
            for read in (_ome, _imagej, _metaseries):
                sides = read(tiff)
                if sides is not None and all(0 < side < math.inf for side in sides):
                    return sides[0] if math.isclose(*sides, rel_tol=0.01) else None
    except Exception:  # broken metadata does not make the image unusable
        return None
    return None


def _ome(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    text = tiff.ome_metadata
    if text is None or len(text) > MAX_XML or "<!" in text.replace("<!--", ""):
        return None
    pixels = next(
        (node for node in ElementTree.fromstring(text).iter() if node.tag.endswith("}Pixels")), None
    )
    if pixels is None:
        return None
    sides = []
    for axis in "XY":
        size = pixels.get(f"PhysicalSize{axis}")
        unit = MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "\N{MICRO SIGN}m"))
        if size is None or unit is None:
            return None
        sides.append(float(size) * unit)
    return sides[0], sides[1]


def _imagej(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    metadata: dict[str, Any] = tiff.imagej_metadata or {}
    unit = MICROMETRES.get(str(metadata.get("unit", "")))
    tags = tiff.pages.first.tags
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    sides = []
    for name in ("XResolution", "YResolution"):
        pixels, units = tags[name].value
        sides.append(unit * units / pixels if pixels else math.inf)
    return sides[0], sides[1]


def _metaseries(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    plane = (tiff.metaseries_metadata or {}).get("PlaneInfo", {})
    unit = MICROMETRES.get(str(plane.get("spatial-calibration-units")))
    if not plane.get("spatial-calibration-state") or unit is None:
        return None
    across = plane["spatial-calibration-x"]
    return across * unit, plane.get("spatial-calibration-y", across) * unit
