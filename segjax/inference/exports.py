"""Writes segmentations to files that ImageJ, QuPath and napari open."""

from io import BytesIO
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from segjax.files import atomic_write
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE

# Value of the tag `Software` in every picture that is written here.
SOFTWARE = "segjax predict"
LABELS, CLASSES, OVERLAY = "_labels.tif", "_classes.tif", "_overlay.png"


def result_path(stem: Path, ending: str) -> Path:
    """Returns the path of a result, `<stem><ending>`."""
    return stem.with_name(stem.name + ending)


def write_label_images(segmentation: Segmentation, stem: Path) -> tuple[Path, Path]:
    """Writes `<stem>_labels.tif` and `<stem>_classes.tif`, each atomically.

    Returns:
      The paths of the instance ids (uint16, or uint32 above 65,535 instances) and of the class of each pixel
      (uint8, 255 where it is `IGNORE`).

    Raises:
      OSError: if a file cannot be written.
    """
    dtype = np.uint16 if segmentation.num_instances < 2**16 else np.uint32
    semantic = np.where(segmentation.semantic == IGNORE, 255, segmentation.semantic)
    pictures = {LABELS: segmentation.labels.astype(dtype), CLASSES: semantic.astype(np.uint8)}
    labels, classes = (result_path(stem, ending) for ending in pictures)
    for path, picture in zip((labels, classes), pictures.values(), strict=True):
        with atomic_write(path) as tmp_path:
            tifffile.imwrite(tmp_path, picture, compression="zlib", software=SOFTWARE)
    return labels, classes


def write_overlay(picture: np.ndarray, stem: Path) -> Path:
    """Writes a picture [H, W, 3] uint8 to `<stem>_overlay.png`, atomically; returns the path."""
    about = PngInfo()
    about.add_text("Software", SOFTWARE)
    encoded = BytesIO()
    Image.fromarray(picture).save(encoded, "PNG", pnginfo=about)
    path = result_path(stem, OVERLAY)
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(encoded.getvalue())
    return path


def is_result(path: Path) -> bool:
    """Returns whether a picture was written by this module and not changed by another program since."""
    try:
        if path.name.endswith((LABELS, CLASSES)):
            with tifffile.TiffFile(path) as tiff:
                return tiff.pages.first.software == SOFTWARE
        if path.name.endswith(OVERLAY):
            with Image.open(path, formats=("PNG",)) as picture:
                return picture.info.get("Software") == SOFTWARE
    except Exception:  # a damaged file, which is no result
        return False
    return False
