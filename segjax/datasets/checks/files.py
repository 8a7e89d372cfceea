"""Checks of a file before its pixels are decoded, for damage that readers do not report."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from segjax.data.readers import MAX_PIXELS, TIFF_SUFFIXES, File
from segjax.datasets.checks.findings import Finding, finding_of


def check_file(path: str | File) -> list[Finding]:
    """Checks a file that `read_image` is to read.

    Returns:
      Findings of kinds `unreadable` (no such file), `empty_file`, `truncated` and `alpha_only`. Other damage
      is raised by `read_image`, see `finding_of`.
    """
    path = Path(path) if isinstance(path, str) else path
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        return [finding_of(error)]
    if size == 0:
        return [Finding("empty_file", "0 bytes")]
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            return _check_tiff(path, size)
        if path.suffix.lower() == ".png":
            return _check_png(path)
    except Exception:  # the reader reports it, in more detail
        return []
    return []


def _check_tiff(path: File, size: int) -> list[Finding]:
    with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
        starts = [offset for page in tiff.series[0].pages if page is not None for offset in page.dataoffsets]
    # Ends of strips prove no damage: some writers declare more bytes for the last strip than it has.
    beyond = sum(offset >= size for offset in starts)
    if beyond:
        return [Finding("truncated", f"{beyond} of {len(starts)} strips or tiles lie beyond the end")]
    return []


def _check_png(path: File) -> list[Finding]:
    """Detects drawings on a transparent layer, which are lost when transparency is dropped."""
    with path.open("rb") as file, Image.open(file, formats=("PNG",)) as picture:
        if picture.mode not in ("LA", "RGBA") or picture.width * picture.height > MAX_PIXELS:
            return []
        *colours, alpha = np.atleast_2d(picture.getextrema())
    if alpha[0] == alpha[1] or any(low != high for low, high in colours):
        return []
    detail = f"every pixel has one colour, transparency goes from {alpha[0]} to {alpha[1]}"
    return [Finding("alpha_only", detail)]
