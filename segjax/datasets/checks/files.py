"""What a file says about itself before its pixels are decoded, where readers would not notice."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from segjax.data.readers import MAX_PIXELS, TIFF_SUFFIXES, File
from segjax.datasets.checks.findings import Finding, finding_of


def check_file(path: str | File) -> list[Finding]:
    """Examines a file that `read_image` is to read.

    Args:
      path: of an image of any kind.

    Returns:
      Findings of kinds `unreadable` (there is no such file), `empty_file`, `truncated` and `alpha_only`; what
      else may be wrong with the file is what `read_image` raises, see `finding_of`.
    """
    path = Path(path) if isinstance(path, str) else path
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        return [finding_of(error)]
    if size == 0:
        return [Finding("empty_file", "0 bytes")]
    suffix = path.suffix.lower()
    try:
        if suffix in TIFF_SUFFIXES:
            return _tiff(path, size)
        if suffix == ".png":
            return _png(path)
    except Exception:  # the reader says what is wrong, and better
        return []
    return []


def _tiff(path: File, size: int) -> list[Finding]:
    with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
        pages = [page for page in tiff.series[0].pages if page is not None]
        starts = [offset for page in pages for offset in page.dataoffsets]
    # By where they begin: some writers give the last strip more bytes than it has.
    beyond = sum(offset >= size for offset in starts)
    if beyond:
        return [Finding("truncated", f"{beyond} of {len(starts)} strips or tiles lie beyond the end")]
    return []


def _png(path: File) -> list[Finding]:
    """Finds drawings on a transparent layer: reading drops transparency, and with it all there is."""
    with path.open("rb") as file, Image.open(file, formats=("PNG",)) as picture:
        if picture.mode not in ("LA", "RGBA") or picture.width * picture.height > MAX_PIXELS:
            return []
        *colours, alpha = np.atleast_2d(picture.getextrema())
    varies = [low != high for low, high in (*colours, alpha)]
    if varies[-1] and not any(varies[:-1]):
        return [
            Finding(
                "alpha_only", f"every pixel has one colour, transparency goes from {alpha[0]} to {alpha[1]}"
            )
        ]
    return []
