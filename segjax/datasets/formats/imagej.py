"""ImageJ: a zip archive of ROIs, or a single .roi, for each image, with pixel edges at integers."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from segjax.data.readers import unreadable
from segjax.datasets.formats.annotation import Annotations, RawAnnotation, read_valid
from segjax.datasets.formats.documents import INVALID, JsonField
from segjax.datasets.formats.imagej_outlines import outline_of
from segjax.datasets.formats.layout import AnnotationSource, OneFilePerImage
from segjax.datasets.formats.outlines import box_of, check_inside, fill, fill_ellipse, rasterize_outlines
from segjax.errors import InputError
from segjax.segmentation import Cutout

SUFFIXES = (".zip", ".roi")
MAX_MEMBERS = 2**17
# A ROI of a million vertices has 12 MB.
MAX_MEMBER_BYTES = 2**24
MAX_BYTES = 2**28


def open_imagej(source: AnnotationSource) -> Annotations:
    """The group of a ROI, from 1, is its class; group 0 (none), or any if there is one class, is class 1.

    Where two overlap the smaller is on top. The file does not contain the size of its image: an outline that
    leaves the image by more than the size of the image is an error; one that lies outside counts as hidden.
    """
    names = source.names()
    return OneFilePerImage(source.index(SUFFIXES), names, partial(_read_file, num_classes=len(names)))


def _read_file(path: Path, shape: tuple[int, int], num_classes: int) -> RawAnnotation:
    rois, invalid = read_valid(_members(path), partial(_read_roi, num_classes=num_classes))
    if len({roi.plane for roi in rois}) > 1:
        raise InputError(
            f"{path} has ROIs on several slices of a stack; export one zip for each slice", kind=INVALID
        )
    return rasterize_outlines(rois, shape, path, invalid=invalid)


class _Roi(NamedTuple):
    """The name of a ROI for errors, its closed lines [V, 2], its class, and its slices of a stack.

    The lines of an upright ellipse are those of its box.
    """

    where: str
    rings: list[np.ndarray]
    is_ellipse: bool
    class_index: int
    plane: tuple[int, int, int]

    def rasterize(self, shape: tuple[int, int]) -> Cutout:
        for ring in self.rings:
            check_inside(ring, shape, max(shape), JsonField(self.where, {}), "coordinates")
        if self.is_ellipse:
            return fill_ellipse(box_of(self.rings).reshape(2, 2), shape)
        return fill(self.rings, shape)


def _read_roi(member: tuple[str, bytes], num_classes: int) -> _Roi:
    where, content = member
    try:
        roi = ImagejRoi.frombytes(content)
        rings = outline_of(roi, JsonField(where, {}))
    except InputError:
        raise
    except Exception as error:  # roifile raises many types on damaged files
        raise unreadable(where, error, "export it again") from error
    group = max(1, roi.group) if num_classes > 2 else 1
    if group >= num_classes:
        raise InputError(
            f"{where} has the group {group}; there are {num_classes - 1} classes", kind="invalid_class"
        )
    is_ellipse = roi.roitype == ROI_TYPE.OVAL and not roi.composite
    return _Roi(where, rings, is_ellipse, group, (roi.position, roi.z_position, roi.t_position))


def _members(path: Path) -> list[tuple[str, bytes]]:
    """Returns the name of each ROI for errors, and its bytes; sorted, so ids do not depend on the archive."""
    if path.suffix.lower() == ".roi":
        if path.stat().st_size > MAX_MEMBER_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes: no ROI is that large", kind=INVALID)
        try:
            return [(str(path), path.read_bytes())]
        except OSError as error:
            raise unreadable(path, error) from error
    try:
        with zipfile.ZipFile(path) as archive:
            members = _select_rois(path, archive.infolist())
            return [(f"{path}: {info.filename}", archive.read(info)) for info in members]
    except InputError:
        raise
    except Exception as error:  # damaged, encrypted, or of an unknown compression
        raise unreadable(path, error, "save the ROIs again", kind=INVALID) from error


def _select_rois(path: Path, members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Returns the ROIs of an archive, and refuses one with other files or of an excessive size."""
    rois = []
    for info in members:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.as_posix().split("/")[0]:
            raise InputError(
                f"{path} holds {info.filename}, a path outside its folder; save the ROIs again", kind=INVALID
            )
        if info.is_dir() or name.name.startswith(".") or name.parts[0] == "__MACOSX":
            continue
        if name.suffix.lower() != ".roi":
            raise InputError(f"{path} holds {info.filename}, which is no ROI; zip only ROIs", kind=INVALID)
        if info.file_size > MAX_MEMBER_BYTES:
            raise InputError(
                f"{path} holds {info.filename} of {info.file_size} bytes: no ROI is that large", kind=INVALID
            )
        rois.append(info)
    if len(rois) > MAX_MEMBERS or sum(info.file_size for info in rois) > MAX_BYTES:
        raise InputError(
            f"{path} holds more than {MAX_MEMBERS} ROIs or {MAX_BYTES} bytes; split it", kind=INVALID
        )
    return sorted(rois, key=lambda info: info.filename)
