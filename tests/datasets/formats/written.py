"""Writes label maps as annotations of every format, as the tools themselves do, and makes cells to write.

Nothing here is shared with the readers: outlines are traced, run lengths and base64 written anew.
"""

import base64
import io
import itertools
import json
import zipfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask
from roifile import ROI_TYPE, ImagejRoi
from scipy import ndimage

WITH_CLASSES = ("coco", "labelme", "voc", "qupath", "imagej")


def cells(seed, shape=(61, 83), num_classes=2):
    """Made-up cells: some touch, some have a hole, one is a single pixel; ids have gaps.

    Returns:
      labels [H, W] int32, and the class of each id, 1..num_classes - 1.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for index in range(14):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        angle = np.arctan2(rows - y, columns - x)
        waves = 1 + 0.25 * np.sin(rng.integers(2, 6) * angle + rng.uniform(0, 6))
        distance = np.hypot(rows - y, columns - x) / waves
        radius = rng.uniform(4, 12)
        body = (distance < radius) & (distance >= (radius / 3 if index % 3 == 0 else 0))
        body &= labels == 0
        parts, count = ndimage.label(body)
        if count:
            labels[parts == np.bincount(parts[parts > 0]).argmax()] = 3 * index + 2
    free = np.argwhere(ndimage.uniform_filter((labels == 0).astype(float), 3) == 1)
    labels[tuple(free[rng.integers(len(free))])] = 50
    ids = np.unique(labels[labels > 0]).tolist()
    return labels, {index: int(rng.integers(1, num_classes)) for index in ids}


def write_dataset(form, root, drawn, class_names=("background", "cell")):
    """Writes annotations of many images.

    Args:
      form: one of `FORMATS`. Of `labels`, `colours`, `binary` and `instances` classes are lost, and of
        `binary` which cells touch.
      root: folder to write into.
      drawn: `{key: (labels [H, W] int, {id: class})}`.
      class_names: background first.

    Returns:
      The path to be given as that of the annotations.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    if form == "coco":
        return _write_coco(root / "annotations.json", drawn, class_names)
    if form == "voc":
        (root / "class_names.txt").write_text("\n".join(class_names))
    for key, (labels, classes) in drawn.items():
        WRITERS[form](root, key, np.asarray(labels, np.int32), classes, class_names)
    return root


def outlines(mask):
    """The closed lines along the edges of a mask's pixels, holes too: lists of (x, y), corners only."""
    padded = np.pad(mask, 1)
    onward = {}
    for y, x in np.argwhere(mask).tolist():
        corners = [(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)]
        beside = [padded[y, x + 1], padded[y + 1, x + 2], padded[y + 2, x + 1], padded[y + 1, x]]
        for side in range(4):
            if not beside[side]:
                onward.setdefault(corners[side], []).append(corners[(side + 1) % 4])
    rings = []
    while onward:
        ring = [next(iter(onward))]
        while True:
            following = onward[ring[-1]].pop()
            if not onward[ring[-1]]:
                del onward[ring[-1]]
            if following == ring[0]:
                break
            ring.append(following)
        before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
        rings.append([point for point, a, b in zip(ring, before, after, strict=True) if (b - a).all()])
    return rings


def polygons(mask):
    """`outlines` as GeoJSON has them: a list of polygons, each its outline and its holes."""
    all_rings = []
    parts, count = ndimage.label(mask)
    for part in range(1, count + 1):
        rings = outlines(parts == part)
        # The outline reaches further than any hole.
        rings.sort(key=lambda ring: -np.ptp(ring, axis=0).prod())
        all_rings.append(rings)
    return all_rings


def masks(labels):
    for index in np.unique(labels[labels > 0]).tolist():
        yield index, labels == index


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def _write_labels(root, key, labels, classes, class_names):
    path = root / f"{key}_masks.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, labels.astype(np.uint16))


def _write_colours(root, key, labels, classes, class_names):
    colours = np.random.default_rng(0).choice(2**24 - 1, labels.max() + 1, replace=False) + 1
    colours[0] = 0
    packed = colours[labels]
    put(
        root / f"{key}.png",
        png(np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.uint8)),
    )


def _write_binary(root, key, labels, classes, class_names):
    put(root / f"{key}_mask.png", png(np.where(labels > 0, np.uint8(255), np.uint8(0))))


def _write_instances(root, key, labels, classes, class_names):
    (root / key).mkdir(parents=True, exist_ok=True)
    for index, mask in masks(labels):
        put(root / key / f"{index:04d}.png", png(np.where(mask, np.uint8(255), np.uint8(0))))


def _write_coco(path, drawn, class_names):
    # Ids have gaps, and their order is not that of the names.
    categories = [{"id": 3 * index, "name": name} for index, name in enumerate(class_names) if index]
    document = {"images": [], "annotations": [], "categories": categories[::-1]}
    for number, (key, (labels, classes)) in enumerate(drawn.items()):
        height, width = labels.shape
        image = {"id": 10 + number, "file_name": f"{key}.png", "height": height, "width": width}
        document["images"].append(image)
        for index, mask in masks(np.asarray(labels)):
            rings = outlines(mask)
            if len(rings) == 1:
                segmentation = [np.ravel(rings[0]).tolist()]
            else:  # COCO's polygons have no holes
                segmentation = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
                segmentation["counts"] = segmentation["counts"].decode()
                if index % 2:
                    flat = mask.ravel(order="F")
                    edges = np.flatnonzero(np.diff(flat, prepend=False, append=False))
                    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
                    segmentation["counts"] = counts
            document["annotations"].append(
                {
                    "id": 100 * number + index,
                    "image_id": 10 + number,
                    "category_id": 3 * classes.get(index, 1),
                    "segmentation": segmentation,
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                }
            )
    put(path, document)
    return path


def _write_labelme(root, key, labels, classes, class_names):
    shapes = []
    for index, mask in masks(labels):
        rows, columns = np.nonzero(mask)
        box = [[int(columns.min()), int(rows.min())], [int(columns.max()), int(rows.max())]]
        shape = {"label": class_names[classes.get(index, 1)], "group_id": None, "flags": {}}
        inside = mask[box[0][1] : box[1][1] + 1, box[0][0] : box[1][0] + 1]
        ring = _through_centres(mask)
        if inside.all():
            shape |= {"shape_type": "rectangle", "points": box[::-1]}
        elif ring is None:
            shape |= {"shape_type": "mask", "points": box, "mask": base64.b64encode(png(inside)).decode()}
        else:
            shape |= {"shape_type": "polygon", "points": ring}
        shapes.append(shape)
    height, width = labels.shape
    document = {
        "version": "6.3.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"..\\images\\{Path(key).name}.png",
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    put(root / f"{key}.json", document)


def _through_centres(mask):
    """The line through the outermost pixels, walked along the left-hand wall; None if there are holes."""
    if len(outlines(mask)) > 1:
        return None
    steps = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    inside = {(x, y) for y, x in np.argwhere(mask).tolist()}
    start = min(inside, key=lambda point: point[::-1])
    walked, heading, at, first = [], 0, start, None
    while True:
        for turn in (-1, 0, 1, 2):
            direction = (heading + turn) % 4
            onward = (at[0] + steps[direction][0], at[1] + steps[direction][1])
            if onward in inside:
                break
        if walked and at == start and direction == first:
            return [list(point) for point in walked]
        first = direction if first is None else first
        walked.append(at)
        at, heading = onward, direction


def _write_voc(root, key, labels, classes, class_names):
    numbers = np.zeros(labels.max() + 1, np.int64)
    of_class = np.zeros(labels.max() + 1, np.uint8)
    for number, (index, _) in enumerate(masks(labels), start=1):
        numbers[index], of_class[index] = number, classes.get(index, 1)
    for folder, pixels in (("SegmentationObject", numbers[labels]), ("SegmentationClass", of_class[labels])):
        picture = Image.fromarray(pixels.astype(np.uint8))
        picture.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
        path = root / folder / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def _write_qupath(root, key, labels, classes, class_names):
    features = []
    for index, mask in masks(labels):
        rings = [[[*map(list, ring), list(ring[0])] for ring in polygon] for polygon in polygons(mask)]
        single = len(rings) == 1
        features.append(
            {
                "type": "Feature",
                "id": f"7f1c-{index}",
                "geometry": {
                    "type": "Polygon" if single else "MultiPolygon",
                    "coordinates": rings[0] if single else rings,
                },
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": class_names[classes.get(index, 1)], "color": [200, 0, 0]},
                },
            }
        )
    document = {"type": "FeatureCollection", "features": features}
    put(root / f"{key}.geojson", document if len(features) % 2 else features)


def _write_imagej(root, key, labels, classes, class_names):
    path = root / f"{key}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for index, mask in masks(labels):
            archive.writestr(f"{index:04d}.roi", roi(mask, classes.get(index, 1)).tobytes())


def roi(mask, group=0):
    """A mask as ImageJ saves it: traced, or composite if it has holes or parts."""
    rings = outlines(mask)
    traced = ImagejRoi.frompoints(np.array(rings[0]))
    traced.roitype, traced.group = ROI_TYPE.TRACED, group
    if len(rings) > 1:
        traced.roitype, traced.integer_coordinates, traced.n_coordinates = ROI_TYPE.RECT, None, 0
        # Move to, line to, close.
        path = [
            [number for at, point in enumerate(ring) for number in (min(at, 1), *point)] + [4]
            for ring in rings
        ]
        traced.multi_coordinates = np.array(list(itertools.chain(*path)), np.float32)
        traced.shape_roi_size = len(traced.multi_coordinates)
    return traced


WRITERS = {
    "labels": _write_labels,
    "colours": _write_colours,
    "binary": _write_binary,
    "instances": _write_instances,
    "labelme": _write_labelme,
    "voc": _write_voc,
    "qupath": _write_qupath,
    "imagej": _write_imagej,
}
