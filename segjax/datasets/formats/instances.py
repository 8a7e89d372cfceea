"""One mask for each instance: `<key>/*.png`, or, as in the Data Science Bowl, `<id>/masks/*.png`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from segjax.data.readers import SUFFIXES
from segjax.datasets.formats.binary import foreground
from segjax.datasets.formats.drawing import Annotations, RawAnnotation, check_shape, rasterize_instances
from segjax.datasets.formats.labels import JPEG_SUFFIXES
from segjax.datasets.formats.layout import IMAGE_FOLDER, MASK_FOLDERS, AnnotationSource
from segjax.errors import InputError
from segjax.segmentation import Cutout


def open_instances(place: AnnotationSource) -> Annotations:
    """One folder of masks for each image; an empty folder is an image without instances."""
    if not place.path.is_dir():
        raise InputError(f"{place.path} is no folder; instances lie in one folder for each image")
    folders: dict[str, Path] = {}
    for folder in sorted(path for path in place.path.rglob("*") if path.is_dir()):
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
        # `x/y` is beside masks if it would be as a file `x/y/z`.
        if any(path.is_dir() for path in inside) or place.beside_masks(folder / "mask"):
            continue
        folders[_key(place, folder)] = folder
    if not folders:
        raise InputError(f"{place.path} holds no folder of masks; instances lie in one folder for each image")
    return Instances(folders, place.names(), place.max_pixels)


@dataclasses.dataclass(frozen=True)
class Instances:
    """A folder of masks for each image.

    Attributes:
      folders: by key.
      class_names: background first.
      max_pixels: of one mask.
    """

    folders: Mapping[str, Path]
    class_names: tuple[str, ...]
    max_pixels: int

    @property
    def keys(self) -> frozenset[str]:
        """Of the images that are annotated."""
        return frozenset(self.folders)

    def read(self, key: str, shape: tuple[int, int]) -> RawAnnotation:
        """Reads what was drawn on one image, see `Annotations`; instances are numbered by file name.

        Where two overlap the smaller one is on top. A mask has two values; a JPEG is cut at 128.
        """
        if key not in self.folders:
            raise InputError(
                f"there is no folder of masks for {key}; make one, empty if the image has no cell"
            )
        paths = _pictures(self.folders[key])
        cutouts = []
        for path in paths:
            mask = foreground(path, max_pixels=self.max_pixels)
            check_shape(path, mask.shape, shape)
            cutouts.append(Cutout.of(mask))
        return rasterize_instances(
            cutouts,
            shape,
            classes=[1] * len(cutouts),
            files=tuple(map(str, paths or [self.folders[key]])),
            lossy=any(path.suffix.lower() in JPEG_SUFFIXES for path in paths),
        )


def _pictures(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def _key(place: AnnotationSource, folder: Path) -> str:
    """The image that a folder of masks belongs to."""
    own = folder.relative_to(place.path)
    if folder.name not in MASK_FOLDERS:
        return own.as_posix()
    beside = folder.parent / IMAGE_FOLDER
    if not beside.is_dir():
        return own.parent.as_posix()
    images = _pictures(beside)
    if len(images) != 1:
        raise InputError(
            f"{beside} holds {len(images)} images, but {folder} the masks of one; keep one image"
        )
    return images[0].relative_to(place.path).with_suffix("").as_posix()
