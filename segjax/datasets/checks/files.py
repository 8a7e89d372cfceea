"""Checks of a file before its pixels are decoded, for damage that readers do not report."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from segjax.data.readers import TIFF_SUFFIXES, File, describe_other_images, open_picture, unreadable
from segjax.data.readers.tiff import largest_series, open_tiff
from segjax.datasets.checks.findings import Finding, finding_of


def check_file(path: str | File) -> list[Finding]:
    """Checks a file that `read_image` is to read.

    Returns:
      Findings of kinds `unreadable` (no such file), `empty_file`, `truncated`, `alpha_only` and
      `several_images`. Other damage is raised by `read_image`, see `finding_of`.
    """
    path = Path(path) if isinstance(path, str) else path
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        return [finding_of(unreadable(path, error))]
    if size == 0:
        return [Finding("empty_file", "0 bytes")]
    findings = []
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            findings += _check_tiff(path, size)
        if path.suffix.lower() == ".png":
            findings += _check_png(path)
        if others := describe_other_images(path):
            findings.append(Finding("several_images", others))
    except Exception:  # the reader reports it, in more detail
        return findings
    return findings


def _check_tiff(path: File, size: int) -> list[Finding]:
    with open_tiff(path) as tiff:
        pages = largest_series(tiff).pages
        starts = [offset for page in pages if page is not None for offset in page.dataoffsets]
    # Ends of strips prove no damage: some writers declare more bytes for the last strip than it has.
    beyond = sum(offset >= size for offset in starts)
    if beyond:
        return [Finding("truncated", f"{beyond} of {len(starts)} strips or tiles lie beyond the end")]
    return []


def _check_png(path: File) -> list[Finding]:
    """Detects drawings on a transparent layer, which are lost when transparency is dropped."""
    with open_picture(path) as picture:
        if picture.mode not in ("LA", "RGBA"):
            return []
        *colours, alpha = np.atleast_2d(picture.getextrema())
    if alpha[0] == alpha[1] or any(low != high for low, high in colours):
        return []
    detail = f"every pixel has one colour, transparency goes from {alpha[0]} to {alpha[1]}"
    return [Finding("alpha_only", detail)]
