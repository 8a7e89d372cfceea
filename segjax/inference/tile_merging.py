"""Detects objects window by window, and merges detections of one object by neighbouring windows."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from segjax.data.windows import boxes_in_window, pad_boxes
from segjax.inference.tiling import Windows
from segjax.typing import Outputs

# A box counts as cut by its window if it is nearer than this to an edge of the window, in pixels.
EDGE_DISTANCE = 1.5
# A cut box is removed if more than this fraction of it lies inside a better box of another window; any box,
# if its IoU with a better one is above the second value.
MAX_CONTAINED, MAX_IOU = 0.5, 0.5

# `(images [1, S, S, C], size (2,), (boxes [1, P, 4], valid [1, P]) or None) -> outputs`, each leading with 1.
Predict = Callable[[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None], Outputs]


def predict_and_merge(
    predict: Predict,
    image: np.ndarray,
    windows: Windows,
    *,
    proposals: np.ndarray | None = None,
    max_proposals: int = 0,
) -> dict[str, np.ndarray]:
    """Detects the objects of an image window by window.

    Args:
      predict: detects the objects of one window; `size` is `(height, width)` of the window without padding.
      image: [H, W, C] float32. If it is smaller than a window, it is padded by reflection.
      windows: size and overlap of the windows. An object larger than the overlap may be detected in pieces.
        With the network's stride, anchors of all windows are at the same pixels as those of the full image.
      proposals: [P, 4] float boxes, pixels, for a network without an RPN.
      max_proposals: maximum per window; if there are more, an evenly spaced selection is used.

    Returns:
      The valid outputs of all windows: "boxes" [N, 4] in pixels of the image, all other outputs with as many
      rows; and "dropped" [], the number of detections beyond the network's limit.
    """
    height, width = image.shape[:2]
    padded, side = windows.fit(image)
    tops, lefts = (windows.starts(length, side) for length in padded.shape[:2])
    parts: list[dict[str, np.ndarray]] = []
    dropped = 0
    for top, left in itertools.product(tops, lefts):
        size = np.array([min(side, height - top), min(side, width - left)], np.float32)
        boxes = None if proposals is None else _proposals_in(proposals, top, left, size, max_proposals)
        outputs = predict(padded[top : top + side, left : left + side][None], size, boxes)
        part = {name: np.asarray(values)[0] for name, values in outputs.items()}
        dropped += int(part.pop("dropped", 0))
        valid = part.pop("valid")
        part = {name: values[valid] for name, values in part.items()}
        # Edges of the window that are not edges of the image.
        inner = np.array([left > 0, top > 0, left + side < width, top + side < height])
        edges = np.array([0, 0, side, side], np.float32)
        part["cut"] = (inner & (np.abs(part["boxes"] - edges) < EDGE_DISTANCE)).any(1)
        part["boxes"] = part["boxes"] + np.array([left, top, left, top], np.float32)
        part["window"] = np.full(len(part["boxes"]), len(parts))
        parts.append(part)
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    selected = _cross_tile_nms(merged) if len(parts) > 1 else np.arange(len(merged["boxes"]))
    result = {name: values[selected] for name, values in merged.items() if name not in ("cut", "window")}
    return result | {"dropped": np.array(dropped)}


def _proposals_in(
    boxes: np.ndarray, top: int, left: int, size: np.ndarray, capacity: int
) -> tuple[np.ndarray, np.ndarray]:
    inside = boxes_in_window(boxes, top=top, left=left, size=(size[0], size[1]))
    if len(inside) > capacity:
        inside = inside[np.linspace(0, len(inside) - 1, capacity).astype(int)]
    padded, valid = pad_boxes(inside, capacity)
    return padded[None], valid[None]


def _cross_tile_nms(detections: dict[str, np.ndarray]) -> np.ndarray:
    """Returns indices, best first, without objects that another window detects as well or better."""
    boxes, windows, cut = detections["boxes"], detections["window"], detections["cut"]
    classes = detections["classes"]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    nearby, is_selected = _of_overlapping_windows(boxes, windows), np.zeros(len(boxes), bool)
    # All boxes that are cut come after those that are not.
    order = np.lexsort((-detections["scores"], cut))
    for index in order:
        others = nearby[windows[index]]
        others = others[is_selected[others] & (classes[others] == classes[index])]
        low = np.maximum(boxes[others, :2], boxes[index, :2])
        high = np.minimum(boxes[others, 2:], boxes[index, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        same = shared > MAX_IOU * (areas[others] + areas[index] - shared)
        contained = shared > MAX_CONTAINED * areas[index]
        is_selected[index] = not (same | (contained & cut[index])).any()
    return order[is_selected[order]]


def _of_overlapping_windows(boxes: np.ndarray, windows: np.ndarray) -> dict[int, np.ndarray]:
    """Returns for each window the indices of the boxes of other windows whose boxes come near its own."""
    members = {int(window): np.flatnonzero(windows == window) for window in np.unique(windows)}
    low = np.array([boxes[own, :2].min(axis=0) for own in members.values()])
    high = np.array([boxes[own, 2:].max(axis=0) for own in members.values()])
    nearby = {}
    for number, window in enumerate(members):
        meets = ((low < high[number]) & (high > low[number])).all(axis=1)
        meets[number] = False
        parts = [own for own, is_near in zip(members.values(), meets, strict=True) if is_near]
        nearby[window] = np.concatenate([np.zeros(0, int), *parts])
    return nearby
