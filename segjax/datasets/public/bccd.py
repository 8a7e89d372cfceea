"""Blood cells under a bright-field microscope (BCCD): boxes of red cells, white cells and platelets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
import tensorflow_datasets as tfds
from skimage.draw import ellipse

from segjax.data.readers import File, read_image
from segjax.data.records import Record
from segjax.datasets.archives import open_archive, read_lines, read_xml
from segjax.datasets.downloads import Download
from segjax.datasets.public.pairs import read_texts
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError
from segjax.segmentation import Segmentation

COMMIT = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"
SPLITS = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
CLASSES = {"RBC": 1, "WBC": 2, "Platelets": 3}
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Bccd(CellBuilder):
    """Builds the data set from the archive of its repository."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "red blood cell", "white blood cell", "platelet")
    DESCRIPTION, CITATION = read_texts("bccd")
    HOMEPAGE = "https://github.com/Shenggan/BCCD_Dataset"
    LICENSE = "MIT"
    # GitHub makes the archive on demand: its sha256 may change, the commit does not.
    ARCHIVE = Download(
        url=f"https://github.com/Shenggan/BCCD_Dataset/archive/{COMMIT}.zip",
        filename="BCCD_Dataset-master.zip",
        max_bytes=2**26,
    )

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains the archive. Its members are read where they are and never unpacked."""
        source = self.ARCHIVE.obtain(downloads)
        return {split: partial(_read_split, source, listing) for split, listing in SPLITS.items()}


def _read_split(source: Path, listing: str) -> Iterator[Record]:
    with open_archive(source) as files:
        lists = [path for path in files if path.match(f"ImageSets/Main/{listing}")]
        if not lists:
            raise InputError(
                f"{source} holds no ImageSets/Main/{listing}: put the original archive there, unmodified"
            )
        root = lists[0].parents[2]
        for name in sorted(read_lines(files[lists[0]])):
            yield _read_record(files, root, name, source)


def _read_record(files: Mapping[PurePosixPath, File], root: PurePosixPath, name: str, source: Path) -> Record:
    """Reads `JPEGImages/<name>.jpg` with `Annotations/<name>.xml`."""
    image_path, boxes_path = root / "JPEGImages" / f"{name}.jpg", root / "Annotations" / f"{name}.xml"
    for path in (image_path, boxes_path):
        if path not in files:
            raise InputError(f"{source} holds no {path}: download it again")
    image = read_image(files[image_path])
    boxes, classes = read_boxes(files[boxes_path])
    return Record(name, f"bccd/{name}", image, fill_boxes(boxes, classes, image.shape[:2]))


def read_boxes(file: File) -> tuple[np.ndarray, np.ndarray]:
    """Reads the objects of a file in the format of Pascal VOC.

    Args:
      file: `object` elements with a `name` of `CLASSES` and a `bndbox`.

    Returns:
      [N, 4] int64 of (xmin, ymin, xmax, ymax) in pixels, counted from 1 and inclusive, and [N] int32 classes.
      Boxes without area are dropped.

    Raises:
      InputError: if the file is not such an XML file, or names another class.
    """
    boxes, classes = [], []
    for entry in read_xml(file).iter("object"):
        name = entry.findtext("name", "").strip()
        if name not in CLASSES:
            raise InputError(
                f"{file} has an object {name!r}; the classes of this data set are {', '.join(CLASSES)}"
            )
        box = _corners(file, entry)
        if box[0] < box[2] and box[1] < box[3]:
            boxes.append(box)
            classes.append(CLASSES[name])
    return np.array(boxes, np.int64).reshape(-1, 4), np.array(classes, np.int32)


def fill_boxes(boxes: np.ndarray, classes: np.ndarray, shape: tuple[int, int]) -> Segmentation:
    """Fills the ellipse inscribed in each box, the smaller on top.

    Args:
      boxes: [N, 4] as `read_boxes` returns them; they are clipped to the image.
      classes: [N] integer.
      shape: `(H, W)`.

    Returns:
      The segmentation. Ids follow the order of the boxes; a fully covered ellipse is dropped.
    """
    labels = np.zeros(shape, np.int32)
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    for index in np.argsort(-sides.prod(axis=1), kind="stable"):
        x, y = (boxes[index, :2] + boxes[index, 2:]) / 2 - 1
        width, height = sides[index]
        labels[ellipse(y, x, height / 2, width / 2, shape)] = index + 1
    return Segmentation.from_labels(labels, classes=classes[np.unique(labels[labels > 0]) - 1])


def _corners(file: File, entry: ElementTree.Element) -> tuple[int, ...]:
    try:
        return tuple(int(entry.findtext(f"bndbox/{corner}", "")) for corner in CORNERS)
    except ValueError as error:
        raise InputError(f"{file} has a box without {', '.join(CORNERS)} ({error})") from error
