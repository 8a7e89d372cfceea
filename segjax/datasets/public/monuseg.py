"""Nuclei in stained tissue of several organs (MoNuSeg): pictures of the Cancer Genome Atlas with outlines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow_datasets as tfds

from segjax.data.readers import File, read_image
from segjax.data.records import Record
from segjax.datasets.archives import read_xml
from segjax.datasets.downloads import ManualDownload
from segjax.datasets.public.hash_split import hash_fraction
from segjax.datasets.public.pairs import Files, PairBuilder, read_texts
from segjax.errors import InputError
from segjax.segmentation import Segmentation

PAGE = "https://monuseg.grand-challenge.org/Data/"
LICENCE = "CC BY-NC-SA 4.0 (no commercial use)"
# A barcode of the Cancer Genome Atlas begins with project, site and patient: TCGA-A7-A13E.
PATIENT_CHARACTERS = 12
# Official training patients whose hash fraction is higher are the validation split.
TRAIN_FRACTION = 0.8


class Monuseg(PairBuilder):
    """Builds the data set from its two archives, downloaded by hand."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "nucleus")
    DESCRIPTION, CITATION = read_texts("monuseg")
    HOMEPAGE = PAGE
    LICENSE = LICENCE
    ARCHIVE = ManualDownload("MoNuSeg 2018 Training Data.zip", PAGE, LICENCE)
    TEST = ManualDownload("MoNuSegTestData.zip", PAGE, LICENCE)

    IMAGES = ("*.tif",)
    LAYOUT = "<barcode>.tif"

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains both archives."""
        training, test = self.ARCHIVE.obtain(downloads), self.TEST.obtain(downloads)
        sources = {"train": training, "validation": training, "test": test}
        return {split: partial(self.read_split, source, split) for split, source in sources.items()}

    @classmethod
    def select(cls, images: Sequence[PurePosixPath], split: str) -> list[PurePosixPath]:
        """Splits the training archive by patient."""
        if split == "test":
            return list(images)
        is_validation = [hash_fraction(patient_of(path.stem)) >= TRAIN_FRACTION for path in images]
        return [path for path, held in zip(images, is_validation, strict=True) if held == (split != "train")]

    @classmethod
    def read_records(cls, files: Files, images: Sequence[PurePosixPath]) -> Iterator[Record]:
        """Reads `<barcode>.tif` with `<barcode>.xml`, which is in another folder."""
        outlines = {path.stem: file for path, file in files.items() if path.suffix == ".xml"}
        for path in images:
            if path.stem not in outlines:
                raise InputError(f"the archive holds no {path.stem}.xml for {path}: download it again")
            image = read_image(files[path])
            truth = Segmentation.from_polygons(read_outlines(outlines[path.stem]), image.shape[:2])
            yield Record(path.stem, f"monuseg/{patient_of(path.stem)}", image, truth)


def patient_of(barcode: str) -> str:
    """Returns the patient of a barcode: `TCGA-A7-A13E` for `TCGA-A7-A13E-01Z-00-DX1`."""
    return barcode[:PATIENT_CHARACTERS]


def read_outlines(file: File) -> list[np.ndarray]:
    """Reads the outlines of an XML file of Aperio ImageScope.

    Args:
      file: `Region` elements of `Vertex` elements, whose attributes X and Y are in pixels.

    Returns:
      One array [V, 2] float64 of (x, y) per region; regions of fewer than three vertices are dropped.

    Raises:
      InputError: if the file is not such an XML file.
    """
    outlines = []
    for region in read_xml(file).iter("Region"):
        try:
            vertices = [
                (float(vertex.attrib["X"]), float(vertex.attrib["Y"])) for vertex in region.iter("Vertex")
            ]
        except (KeyError, ValueError) as error:
            raise InputError(f"{file} has a vertex without X and Y ({error}): download it again") from error
        outline = np.array(vertices, np.float64).reshape(-1, 2)
        if not np.isfinite(outline).all():
            raise InputError(f"{file} has a vertex that is not finite: download it again")
        if len(outline) >= 3:
            outlines.append(outline)
    return outlines
