"""Pixel size from TIFF metadata."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from absl import logging
from tifffile import RESUNIT, TiffFile

from segjax.data.readers import TIFF_SUFFIXES, File
from segjax.data.readers.tiff import largest_series, open_tiff

PLAUSIBLE = (0.01, 100.0)
# Micrometres, by the names of OME, ImageJ and MetaMorph in lower case, with "u" for the micro sign.
MICROMETRES = {
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-6),
    **dict.fromkeys(("å", "a", "angstrom", "ångström"), 1e-4),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("um", "micron", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("dm", "decimeter", "decimetre"), 1e5),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    "thou": 25.4,
    "pt": 25_400 / 72,
    **dict.fromkeys(("in", "inch", "inches", '"'), 25_400.0),
    **dict.fromkeys(("ft", "foot", "feet"), 304_800.0),
}
MICRO_SIGNS = ("\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}", "\\u00b5", "\\u03bc")
RESOLUTION_UNITS = {RESUNIT.INCH: "inch", RESUNIT.CENTIMETER: "cm"}
# Coarser resolutions, in micrometres, are those of screens and printers.
FINEST_PRINT = 10.0
# Largest OME-XML text that is parsed, in characters.
MAX_XML = 2**24


def read_pixel_size(path: str | File) -> float | None:
    """Reads the pixel size of an image file, if it is that of a microscope.

    A size outside `PLAUSIBLE` is not used, and a warning names it.

    Args:
      path: image file, see `stored_pixel_size`.

    Returns:
      Micrometres, None if there is none.
    """
    size = stored_pixel_size(path)
    if size is None or is_plausible(size):
        return size
    logging.warning("%s states %s, which is not used", path, question(size))
    return None


def is_plausible(size: float) -> bool:
    """Returns whether a microscope may have this pixel size, in micrometres."""
    return PLAUSIBLE[0] <= size <= PLAUSIBLE[1]


def question(size: float) -> str:
    """Returns a clause that questions a pixel size in micrometres, outside `PLAUSIBLE`.

    >>> question(325.0)
    'a pixel size of 325 um (0.01 to 100 um are usual: is it in another unit?)'
    """
    low, high = PLAUSIBLE
    return f"a pixel size of {size:.4g} um ({low:g} to {high:g} um are usual: is it in another unit?)"


def stored_pixel_size(path: str | File) -> float | None:
    """Reads the pixel size of the image that `read_image` reads, however large or small it is.

    Supports OME-XML, ImageJ's description, MetaMorph's plane information, and the resolution tags of TIFF.
    Tags without other metadata count only below 10 micrometres: most programs write the 72 or 300 dots per
    inch of a screen or printer there, regardless of the microscope.

    Args:
      path: image file; only .tif and .tiff carry a pixel size.

    Returns:
      Micrometres, or None if the file has no pixel size, has pixels that are not square, or is unreadable.
    """
    path = Path(path) if isinstance(path, str) else path
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return None
    try:
        with open_tiff(path) as tiff:
            for read in (_ome, _imagej, _metaseries, _tags):
                sides = read(tiff)
                if sides is not None and all(0 < side < math.inf for side in sides):
                    return sides[0] if math.isclose(*sides, rel_tol=0.01) else None
    except Exception:  # broken metadata does not make the image unusable
        return None
    return None


def micrometres(name: object) -> float | None:
    """Returns a unit in micrometres, None if it is unknown."""
    text = str(name).strip().lower()
    for sign in MICRO_SIGNS:
        text = text.replace(sign, "u")
    return MICROMETRES.get(text, MICROMETRES.get(text.removesuffix("s")))


def _ome(tiff: TiffFile) -> tuple[float, float] | None:
    text = tiff.ome_metadata
    if text is None or len(text) > MAX_XML or "<!" in text.replace("<!--", ""):
        return None
    sides = [_ome_sides(node) for node in ElementTree.fromstring(text).iter() if node.tag.endswith("}Pixels")]
    if len(sides) == len(tiff.series):
        return sides[tiff.series.index(largest_series(tiff))]
    return sides[0] if sides and sides.count(sides[0]) == len(sides) else None


def _ome_sides(pixels: ElementTree.Element) -> tuple[float, float] | None:
    sides = []
    for axis in "XY":
        size = pixels.get(f"PhysicalSize{axis}")
        unit = micrometres(pixels.get(f"PhysicalSize{axis}Unit", "um"))
        if size is None or unit is None:
            return None
        sides.append(float(size) * unit)
    return sides[0], sides[1]


def _imagej(tiff: TiffFile) -> tuple[float, float] | None:
    """The unit of the description, unless tags state the resolution in another unit that is plausible."""
    unit = micrometres((tiff.imagej_metadata or {}).get("unit", ""))
    if unit is None:
        return None
    by_tags = _by_resolution(tiff, None)
    if by_tags is not None and is_plausible(by_tags[0]):
        return by_tags
    return _by_resolution(tiff, unit)


def _metaseries(tiff: TiffFile) -> tuple[float, float] | None:
    plane: dict[str, Any] = (tiff.metaseries_metadata or {}).get("PlaneInfo", {})
    unit = micrometres(plane.get("spatial-calibration-units"))
    if not plane.get("spatial-calibration-state") or unit is None:
        return None
    across = plane["spatial-calibration-x"]
    return across * unit, plane.get("spatial-calibration-y", across) * unit


def _tags(tiff: TiffFile) -> tuple[float, float] | None:
    sides = _by_resolution(tiff, None)
    return sides if sides is not None and PLAUSIBLE[0] <= sides[0] < FINEST_PRINT else None


def _by_resolution(tiff: TiffFile, unit: float | None) -> tuple[float, float] | None:
    """Returns the sides of a pixel by the resolution tags, in the unit of the tags if None."""
    tags = largest_series(tiff).keyframe.tags
    if unit is None:
        unit = micrometres(RESOLUTION_UNITS.get(tags.valueof("ResolutionUnit"), ""))
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    (across, in_width), (down, in_height) = tags["XResolution"].value, tags["YResolution"].value
    return unit * in_width / (across or math.nan), unit * in_height / (down or math.nan)
