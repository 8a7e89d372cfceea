"""Living cells of eight lines in phase contrast (LIVECell): 5239 images with outlines in COCO's format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from pycocotools import mask as coco_mask

from segjax.data.readers import read_image
from segjax.data.records import Record
from segjax.datasets.archives import open_archive, read_bytes
from segjax.datasets.downloads import ManualDownload
from segjax.datasets.public.pairs import check_size
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError
from segjax.segmentation import Cutout, Segmentation, paint

PAGE = "https://sartorius-research.github.io/LIVECell/"
LICENCE = "CC BY-NC 4.0 (no commercial use)"
SPLITS = {"train": "train", "validation": "val", "test": "test"}
MAX_JSON_BYTES = 2**31
# A172_Phase_C7_1_00d00h00m_1.tif: line, well, location, time, crop.
FILE_NAME = re.compile(r"(?P<line>[^_]+)_Phase_(?P<well>[A-Z]+\d+)_.+\.tif")


class Livecell(CellBuilder):
    """Builds the data set from the archive of its images and three files of annotations, put by hand."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "cell")
    DESCRIPTION = (
        "Cells of eight lines in phase contrast: 5239 images of 520 x 704 pixels, some with thousands of"
        " cells, every one outlined, in the official splits. An image's name begins with its line. A well is"
        " a group; the splits are official, whether or not they share wells. Where cells overlap the smaller"
        " is on top, and one covered whole is left out."
    )
    HOMEPAGE = PAGE
    CITATION = """\
@article{edlund2021livecell,
  title={LIVECell: a large-scale dataset for label-free live cell segmentation},
  author={Edlund, Christoffer and Jackson, Timothy R and Khalid, Nabeel and others},
  journal={Nature Methods},
  volume={18},
  pages={1038--1045},
  year={2021},
  doi={10.1038/s41592-021-01249-6}
}"""
    LICENSE = LICENCE
    IMAGES = ManualDownload("livecell/images.zip", PAGE, LICENCE)
    ANNOTATIONS = tuple(
        ManualDownload(f"livecell/livecell_coco_{part}.json", PAGE, LICENCE) for part in SPLITS.values()
    )

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Finds the files; members of the archive are read where they are and never unpacked."""
        images = self.IMAGES.obtain(downloads)
        annotations = [part.obtain(downloads) for part in self.ANNOTATIONS]
        return {
            split: partial(_read_split, images, path) for split, path in zip(SPLITS, annotations, strict=True)
        }


def well_of(file_name: str) -> str | None:
    """The line and well of an image, `A172_C7`, None if its name is of another kind."""
    parts = FILE_NAME.fullmatch(file_name)
    return None if parts is None else f"{parts['line']}_{parts['well']}"


def rasterize_outlines(outlines: list[Any], shape: tuple[int, int]) -> Segmentation:
    """Paints the cells of one image, the smaller on top.

    Args:
      outlines: each as COCO has it: a list of polygons [x, y, x, y, ...], or runs of pixels that are
        not packed into a string.
      shape: `(H, W)`.

    Returns:
      The segmentation; ids follow the order of the outlines. A cell that covers no pixel, or is covered
      whole, is left out.

    Raises:
      ValueError: if an outline is none, or of an image of another size.
    """
    cells = [found for outline in outlines if (found := _cut_out(outline, shape)) is not None]
    return Segmentation.from_labels(paint(cells, shape))


def _cut_out(outline: Any, shape: tuple[int, int]) -> Cutout | None:
    """The mask of a cell as far as its box; None if it has no area."""
    runs = _runs(outline, shape)
    if runs is None:
        return None
    left, top, width, height = (int(side) for side in coco_mask.toBbox(runs))
    return Cutout(top, left, coco_mask.decode(runs)[top : top + height, left : left + width] > 0)


def _runs(outline: Any, shape: tuple[int, int]) -> Any:
    """An outline in the form that pycocotools decodes; None if it has no area."""
    if isinstance(outline, list):
        polygons = [np.asarray(polygon, np.float64) for polygon in outline]
        if any(one.ndim != 1 or one.size % 2 or not np.isfinite(one).all() for one in polygons):
            raise ValueError("an outline is not a list of polygons")
        # Vertices beyond the image move to its border: a far one would be traced pixel by pixel.
        limits = np.array([shape[1], shape[0]], np.float64)
        inside = [
            np.clip(one.reshape(-1, 2), 0, limits).ravel().tolist() for one in polygons if one.size >= 6
        ]
        return coco_mask.merge(coco_mask.frPyObjects(inside, *shape)) if inside else None
    counts = outline.get("counts") if isinstance(outline, dict) else None
    if not isinstance(counts, list) or tuple(outline.get("size", ())) != shape:
        raise ValueError("an outline is neither polygons nor plain runs of an image of this size")
    # Pixels that runs leave out would not be initialised.
    if any(type(count) is not int or count < 0 for count in counts) or sum(counts) != shape[0] * shape[1]:
        raise ValueError("runs do not add up to an image")
    return coco_mask.frPyObjects(outline, *shape)


def _read_split(images: Path, path: Path) -> Iterator[Record]:
    try:
        content = json.loads(read_bytes(path, max_bytes=MAX_JSON_BYTES))
        listed = {
            int(one["id"]): (str(one["file_name"]), (int(one["height"]), int(one["width"])))
            for one in content["images"]
        }
        outlines: dict[int, list[Any]] = {index: [] for index in listed}
        for one in content["annotations"]:
            outlines[int(one["image_id"])].append(one["segmentation"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no COCO file of LIVECell ({error!r}): download it again") from error
    with open_archive(images) as files:
        by_name = {inside.name: file for inside, file in files.items() if inside.suffix == ".tif"}
        for index, (name, shape) in sorted(listed.items(), key=lambda pair: pair[1]):
            well = well_of(name)
            if well is None or name not in by_name:
                raise InputError(f"{images} holds no image {name!r} that {path} lists: download both again")
            image = read_image(by_name[name])
            check_size(path, shape, image)
            try:
                truth = rasterize_outlines(outlines[index], shape)
            except (ValueError, TypeError, OverflowError) as error:
                raise InputError(f"{path} cannot be used for {name} ({error}): download it again") from error
            yield Record(Path(name).stem, f"livecell/{well}", image, truth)
