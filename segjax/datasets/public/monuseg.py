"""Nuclei in stained tissue of several organs (MoNuSeg): pictures of the Cancer Genome Atlas with outlines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from segjax.data.readers import File, read_image
from segjax.data.records import Record
from segjax.datasets.archives import open_archive, read_xml
from segjax.datasets.downloads import ManualDownload
from segjax.datasets.public.hash_split import share_of
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError
from segjax.segmentation import Segmentation

PAGE = "https://monuseg.grand-challenge.org/Data/"
LICENCE = "CC BY-NC-SA 4.0 (no commercial use)"
# A barcode of the Cancer Genome Atlas begins with project, site and patient: TCGA-A7-A13E.
PATIENT_CHARACTERS = 12
# Of the official training patients, those whose hash is above go into the validation split.
TRAIN_SHARE = 0.8


class Monuseg(CellBuilder):
    """Builds the data set from its two archives, put by hand."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "nucleus")
    DESCRIPTION = (
        "Tissue of several organs, stained with H&E, at 40x: pictures of 1000 x 1000 pixels from the Cancer"
        " Genome Atlas with the outline of every nucleus, in the official splits (37 and 14 pictures). Of"
        " the training patients 20 %, by sha256 of the patient's barcode, are the validation split. A"
        " patient, the first twelve characters of the barcode, is a group. Where outlines overlap the later"
        " one wins."
    )
    HOMEPAGE = PAGE
    CITATION = """\
@article{kumar2020multi,
  title={A multi-organ nucleus segmentation challenge},
  author={Kumar, Neeraj and Verma, Ruchika and Anand, Deepak and others},
  journal={IEEE Transactions on Medical Imaging},
  volume={39},
  pages={1380--1391},
  year={2020},
  doi={10.1109/TMI.2019.2947628}
}"""
    LICENSE = LICENCE
    TRAINING = ManualDownload("MoNuSeg 2018 Training Data.zip", PAGE, LICENCE)
    TEST = ManualDownload("MoNuSegTestData.zip", PAGE, LICENCE)

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Finds the archives; their members are read where they are and never unpacked."""
        training, test = self.TRAINING.obtain(downloads), self.TEST.obtain(downloads)
        sources = {"train": training, "validation": training, "test": test}
        return {split: partial(_read_split, source, split) for split, source in sources.items()}


def patient_of(barcode: str) -> str:
    """The patient of a picture: `TCGA-A7-A13E` of `TCGA-A7-A13E-01Z-00-DX1`."""
    return barcode[:PATIENT_CHARACTERS]


def read_outlines(file: File) -> list[np.ndarray]:
    """Reads the regions of Aperio ImageScope's XML.

    Args:
      file: `Region` elements with `Vertex` elements inside, whose attributes X and Y are pixels.

    Returns:
      Each [V, 2] float64, vertices as (x, y); a region of fewer than three vertices is left out.

    Raises:
      InputError: if the file is no such XML.
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
            raise InputError(f"{file} has a vertex that is no point: download it again")
        if len(outline) >= 3:
            outlines.append(outline)
    return outlines


def _read_split(source: Path, split: str) -> Iterator[Record]:
    with open_archive(source) as files:
        images = [path for path in files if path.suffix == ".tif"]
        outlines = {path.stem: file for path, file in files.items() if path.suffix == ".xml"}
        if not images:
            raise InputError(f"{source} holds no <barcode>.tif: put the archive there as it is downloaded")
        for path in images:
            held_out = share_of(patient_of(path.stem)) >= TRAIN_SHARE
            if split != "test" and held_out != (split == "validation"):
                continue
            if path.stem not in outlines:
                raise InputError(f"{source} holds no {path.stem}.xml for {path}: download it again")
            image = read_image(files[path])
            truth = Segmentation.from_polygons(read_outlines(outlines[path.stem]), image.shape[:2])
            yield Record(path.stem, f"monuseg/{patient_of(path.stem)}", image, truth)
