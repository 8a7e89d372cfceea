"""Zip archives to download: exports of one image, and a data set of all images for `segjax prepare`."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from segjax.errors import InputError
from segjax.experiment.export_formats import FORMATS, Exports
from segjax.inference import coco
from segjax.inference.exports.cells import Cells
from segjax.report.overlays import colour_of, to_display_rgb
from segjax.segmentation import Segmentation
from segjax.serving.workspaces import Picture

# Formats of one image that need nothing but its segmentation.
OFFERED = tuple(name for name in FORMATS if name not in ("ctc", "uncertainty"))
ABOUT = """Images and their corrected cells. Make a data set of them, and train on it:

    segjax prepare --images=images --masks=annotations.json --out=my_data
    segjax train --config=semantic:dataset=folder --config.dataset.data_dir=my_data --workdir=runs/mine
"""


def export_files(picture: Picture, formats: Sequence[str]) -> bytes:
    """Returns a zip archive with the files of some formats.

    Args:
      picture: an image that has been segmented.
      formats: names in `OFFERED`.

    Raises:
      InputError: if there is no segmentation, or a format is unknown.
    """
    segmentation, class_names = picture.segmented()
    for name in formats:
        if name not in OFFERED:
            raise InputError(f"the parameter formats names {name!r}: choose among {', '.join(OFFERED)}")
    exports = Exports(tuple(dict.fromkeys(formats)), picture.pixel_size)
    cells = Cells(
        name=picture.name,
        image=picture.image,
        segmentation=segmentation,
        class_names=class_names,
        display=to_display_rgb,
        colour_of=colour_of,
        pixel_size=picture.pixel_size,
    )
    buffer = io.BytesIO()
    # Several libraries write to files only; the folder is removed before the answer is sent.
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in exports.formats:
            for path, write in exports.paths(name, Path(folder) / PurePath(picture.name).stem, 0).items():
                write(cells, path)
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
        if "coco" in exports.formats:
            archive.writestr("predictions.json", _coco([segmentation], [picture.name], class_names))
    return buffer.getvalue()


def export_data_set(pictures: Iterable[Picture]) -> bytes:
    """Returns a zip archive of the segmented images and their cells, as `segjax prepare` takes it.

    Raises:
      InputError: if no image is segmented, or their classes differ.
    """
    pictures = [picture for picture in pictures if picture.segmentation is not None]
    if not pictures:
        raise InputError("no image is segmented: segment one first")
    segmentations, class_names = zip(*(picture.segmented() for picture in pictures), strict=True)
    for picture, others in zip(pictures, class_names, strict=True):
        if others != class_names[0]:
            raise InputError(
                f"{pictures[0].name} has the classes {', '.join(class_names[0][1:])}, and {picture.name} has"
                f" {', '.join(others[1:])}: segment all images by methods with the same classes"
            )
    names = _unique(picture.name for picture in pictures)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, picture in zip(names, pictures, strict=True):
            archive.writestr(f"images/{name}", picture.content)
        archive.writestr("annotations.json", _coco(segmentations, names, class_names[0]))
        archive.writestr("README.txt", ABOUT)
    return buffer.getvalue()


def _unique(names: Iterable[str]) -> list[str]:
    """Numbers names that differ only in suffix or case, which `segjax prepare` and some disks refuse.

    >>> _unique(["a.png", "A.tif", "b.png"])
    ['a.png', 'A_2.tif', 'b.png']
    """
    stems: set[str] = set()
    unique = []
    for name in names:
        path, number = PurePath(name), 2
        stem = path.stem
        while stem.casefold() in stems:
            stem, number = f"{path.stem}_{number}", number + 1
        stems.add(stem.casefold())
        unique.append(f"{stem}{path.suffix}")
    return unique


def _coco(segmentations: Iterable[Segmentation], names: Iterable[str], class_names: Sequence[str]) -> str:
    images = [
        coco.Image(name, segmentation.shape, coco.segmentation_annotations(segmentation))
        for name, segmentation in zip(names, segmentations, strict=True)
    ]
    return json.dumps(coco.data_set(images, class_names))
