"""ImageJ: a zip archive of ROIs, or a single .roi, for each image, with pixel edges at integers."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from segjax.data.readers import unreadable
from segjax.datasets.formats.annotation import Annotations, RawAnnotation, rasterize_instances
from segjax.datasets.formats.documents import JsonField
from segjax.datasets.formats.layout import AnnotationSource, OneFilePerImage
from segjax.datasets.formats.outlines import check_inside, check_most_inside, fill, fill_ellipse
from segjax.errors import InputError
from segjax.segmentation import Cutout

SUFFIXES = (".zip", ".roi")
MAX_MEMBERS = 2**17
# A ROI of a million vertices has 12 MB.
MAX_MEMBER_BYTES = 2**24
MAX_BYTES = 2**28
OUTLINES = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)


def open_imagej(source: AnnotationSource) -> Annotations:
    """The group of a ROI, from 1, is its class; group 0 (none), or any if there is one class, is class 1.

    Where two overlap the smaller is on top. The file does not contain the size of its image: an outline that
    leaves the image by more than the size of the image is an error; one that lies outside counts as hidden.
    """
    names = source.names()
    return OneFilePerImage(source.index(SUFFIXES), names, partial(_read_file, num_classes=len(names)))


def _read_file(path: Path, shape: tuple[int, int], num_classes: int) -> RawAnnotation:
    masks, boxes, classes, planes = [], [], [], set()
    for where, content in _members(path):
        try:
            roi = ImagejRoi.frombytes(content)
            masks.append(_rasterize(roi, shape, JsonField(where, {})))
            boxes.append(np.array([roi.left, roi.top, roi.right, roi.bottom], np.float64))
        except InputError:
            raise
        except Exception as error:  # roifile raises many types on damaged files
            raise unreadable(where, error, "export it again") from error
        planes.add((roi.position, roi.z_position, roi.t_position))
        group = max(1, roi.group) if num_classes > 2 else 1
        if group >= num_classes:
            raise InputError(
                f"{where} has the group {group}; there are {num_classes - 1} classes", kind="invalid_class"
            )
        classes.append(group)
    if len(planes) > 1:
        raise InputError(f"{path} has ROIs on several slices of a stack; export one zip for each slice")
    check_most_inside(boxes, shape, str(path))
    return rasterize_instances(masks, shape, classes=classes, files=(str(path),))


def _members(path: Path) -> list[tuple[str, bytes]]:
    """Returns the name of each ROI for errors, and its bytes; sorted, so ids do not depend on the archive."""
    if path.suffix.lower() == ".roi":
        if path.stat().st_size > MAX_MEMBER_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes: no ROI is that large")
        return [(str(path), path.read_bytes())]
    try:
        with zipfile.ZipFile(path) as archive:
            members = _select_rois(path, archive.infolist())
            return [(f"{path}: {info.filename}", archive.read(info)) for info in members]
    except InputError:
        raise
    except Exception as error:  # damaged, encrypted, or of an unknown compression
        raise unreadable(path, error, "save the ROIs again") from error


def _select_rois(path: Path, members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Returns the ROIs of an archive, and refuses one with other files or of an excessive size."""
    rois = []
    for info in members:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.as_posix().split("/")[0]:
            raise InputError(f"{path} holds {info.filename}, a path outside its folder; save the ROIs again")
        if info.is_dir() or name.name.startswith(".") or name.parts[0] == "__MACOSX":
            continue
        if name.suffix.lower() != ".roi":
            raise InputError(f"{path} holds {info.filename}, which is no ROI; zip only ROIs")
        if info.file_size > MAX_MEMBER_BYTES:
            raise InputError(f"{path} holds {info.filename} of {info.file_size} bytes: no ROI is that large")
        rois.append(info)
    if len(rois) > MAX_MEMBERS or sum(info.file_size for info in rois) > MAX_BYTES:
        raise InputError(f"{path} holds more than {MAX_MEMBERS} ROIs or {MAX_BYTES} bytes; split it")
    return sorted(rois, key=lambda info: info.filename)


def _rasterize(roi: ImagejRoi, shape: tuple[int, int], entry: JsonField) -> Cutout:
    if roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.ARROW, ROI_SUBTYPE.IMAGE):
        raise entry.error("subtype", f"{roi.subtype.name} covers no cell")
    box = np.array([[roi.left, roi.top], [roi.right, roi.bottom]], np.float64)
    if roi.subpixelrect and roi.widthd > 0:
        box = np.array([[roi.xd, roi.yd], [roi.xd + roi.widthd, roi.yd + roi.heightd]])
    if roi.composite or roi.roitype in OUTLINES:
        rings = [np.asarray(ring, np.float64) for ring in roi.coordinates(multi=True)]
    elif roi.roitype == ROI_TYPE.RECT:
        (left, top), (right, bottom) = box
        rings = [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])]
    elif roi.roitype == ROI_TYPE.OVAL:
        rings = [box]
    else:
        raise entry.error("type", f"{roi.roitype.name} covers no area")
    for ring in rings:
        if not np.isfinite(ring).all():
            raise entry.error("coordinates", "hold NaN or an infinite number")
        check_inside(ring, shape, max(shape), entry, "coordinates")
    if roi.roitype == ROI_TYPE.OVAL and not roi.composite:
        return fill_ellipse(box, shape)
    return fill(rings, shape)
