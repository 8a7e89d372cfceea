"""Finds objects window by window, and joins what neighbouring windows say of the same ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segjax.data.windows import boxes_in_window, pad_boxes
from segjax.inference.tiling import fit_windows, window_offsets
from segjax.typing import Outputs

# A box that comes this near to the edge of its window is taken for cut by it, pixels.
NEAR = 1.5
# A cut box goes if so much of it lies inside a better one; a whole one if their IoU is above this.
CONTAINED, SAME = 0.5, 0.5

# `(images [1, S, S, C], size (2,), (boxes [1, P, 4], valid [1, P]) or None) -> outputs`, each leading with 1.
Predict = Callable[[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None], Outputs]


def predict_and_merge(
    predict: Predict,
    image: np.ndarray,
    *,
    tile: int,
    overlap: int,
    proposals: np.ndarray | None = None,
    max_proposals: int = 0,
) -> dict[str, np.ndarray]:
    """Predicts an image window by window.

    Args:
      predict: finds the objects of one window; `size` is that of the window without its continuation.
      image: [H, W, C] float32. Where it is smaller than a window it is continued by reflection.
      tile: the largest side S of a window, in pixels.
      overlap: of neighbouring windows, in pixels. An object that is larger may be found in pieces.
      proposals: [P, 4] float, boxes in which to look, pixels; None if the network proposes its own.
      max_proposals: of a window; of more, evenly spread ones are taken.

    Returns:
      The outputs of all windows, only those that are valid: "boxes" [N, 4] in pixels of the image and, with
      as many rows, whatever else the network says of an object; and "dropped" [], how many found no place.
    """
    height, width = image.shape[:2]
    padded, side = fit_windows(image, tile=tile)
    parts: list[dict[str, np.ndarray]] = []
    dropped = 0
    for top in window_offsets(padded.shape[0], side, overlap):
        for left in window_offsets(padded.shape[1], side, overlap):
            size = np.array([min(side, height - top), min(side, width - left)], np.float32)
            given = None
            if proposals is not None:
                given = _in_window(proposals, top, left, size, max_proposals)
            outputs = predict(padded[top : top + side, left : left + side][None], size, given)
            found = {name: np.asarray(values)[0] for name, values in outputs.items()}
            dropped += int(found.pop("dropped", 0))
            valid = found.pop("valid")
            found = {name: values[valid] for name, values in found.items()}
            reach = np.array([left, top, left, top], np.float32)
            # Edges of the window that are no edges of the image.
            inner = np.array([left > 0, top > 0, left + side < width, top + side < height])
            edges = np.array([0, 0, side, side], np.float32)
            found["cut"] = (inner & (np.abs(found["boxes"] - edges) < NEAR)).any(1)
            found["boxes"] = found["boxes"] + reach
            found["window"] = np.full(len(found["boxes"]), len(parts))
            parts.append(found)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    kept = _cross_tile_nms(joined) if len(parts) > 1 else np.arange(len(joined["boxes"]))
    result = {name: joined[name][kept] for name in joined if name not in ("cut", "window")}
    return result | {"dropped": np.array(dropped)}


def _in_window(
    boxes: np.ndarray, top: int, left: int, size: np.ndarray, capacity: int
) -> tuple[np.ndarray, np.ndarray]:
    found = boxes_in_window(boxes, top=top, left=left, size=(size[0], size[1]))
    if len(found) > capacity:
        found = found[np.linspace(0, len(found) - 1, capacity).astype(int)]
    padded, valid = pad_boxes(found, capacity)
    return padded[None], valid[None]


def _cross_tile_nms(found: dict[str, np.ndarray]) -> np.ndarray:
    """Indices of objects without those that another window found as well or better, best first."""
    boxes, windows, cut = found["boxes"], found["window"], found["cut"]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    order = np.lexsort((-found["scores"], cut))
    kept: list[int] = []
    for index in order:
        others = np.array(kept, int)
        others = others[
            (windows[others] != windows[index]) & (found["classes"][others] == found["classes"][index])
        ]
        low = np.maximum(boxes[others, :2], boxes[index, :2])
        high = np.minimum(boxes[others, 2:], boxes[index, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        same = shared > SAME * (areas[others] + areas[index] - shared)
        inside = shared > CONTAINED * areas[index]
        if not (same | (inside & cut[index])).any():
            kept.append(int(index))
    return np.array(kept, int)
