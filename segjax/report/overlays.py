"""Pictures of images and segmentations: outlines and legends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.segmentation import find_boundaries

from segjax.segmentation import Segmentation
from segjax.segmentation.resize import resize_segmentation
from segjax.typing import IGNORE

# Okabe and Ito's colour-blind safe palette (https://jfly.uni-koeln.de/color/) for classes 1 and up, without
# black; colours with little contrast on grey come last.
PALETTE = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (240, 228, 66),  # yellow
    (213, 94, 0),  # vermilion
    (0, 158, 115),  # bluish green
    (204, 121, 167),  # reddish purple
)
IGNORED = (128, 128, 128)
# Opacity of the tint of a marked instance, 0 to 1, and the width of its outline, pixels.
TINT, BOLD = 0.35, 3
GAP = 8
TEXT = 16


def colour_of(index: int) -> tuple[int, int, int]:
    """Returns the RGB colour of a class; the palette repeats."""
    return PALETTE[(index - 1) % len(PALETTE)]


def to_display_rgb(image: np.ndarray) -> np.ndarray:
    """Converts an image to 8-bit RGB for display.

    Args:
      image: [H, W, C] image, any real dtype. Three channels are red, green and blue and keep their
        proportions; any other number is averaged to grey, each channel stretched on its own first.

    Returns:
      [H, W, 3] uint8, from the 0.5th percentile to the 99.8th; NaN is black.
    """
    image = np.nan_to_num(np.asarray(image, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(image, (0.5, 99.8), axis=None if image.shape[-1] == 3 else (0, 1))
    stretched = np.clip((image - low) / np.maximum(high - low, 1e-12), 0, 1)
    if image.shape[-1] != 3:
        # Fluorescence spans decades; the square root keeps dim structures visible.
        stretched = np.repeat(np.sqrt(stretched).mean(axis=-1, keepdims=True), 3, axis=-1)
    return np.round(255 * stretched).astype(np.uint8)


def draw_outlines(picture: np.ndarray, segmentation: Segmentation, *, thickness: int = 1) -> np.ndarray:
    """Outlines every instance in the colour of its class.

    Args:
      picture: [H, W, 3] uint8, as from `to_display_rgb`.
      segmentation: instances and classes, with the height and width of `picture`. Pixels with a class but
        without an instance are outlined by class; ignored pixels are greyed out.
      thickness: line width of the outlines, pixels.

    Returns:
      [H, W, 3] uint8.

    Raises:
      ValueError: if picture and segmentation differ in shape.
    """
    if picture.shape[:2] != segmentation.shape:
        raise ValueError(f"image {picture.shape[:2]} and segmentation {segmentation.shape} differ in shape")
    has_instance = segmentation.labels > 0
    classes = np.where(has_instance, segmentation.class_map, np.maximum(segmentation.semantic, 0))
    highest = int(classes.max(initial=0))
    colours = np.array([(0, 0, 0), *(colour_of(index) for index in range(1, highest + 1))])
    ignored = segmentation.semantic == IGNORE
    drawn = picture.copy()
    drawn[ignored] = np.round(0.4 * picture[ignored] + 0.6 * np.array(IGNORED))
    # Pixels without instance use their class as region id, below all instance ids.
    regions = np.where(has_instance, segmentation.labels + highest, classes)
    edges = find_boundaries(regions, connectivity=2, mode="inner")
    edges = ndimage.maximum_filter(edges, 2 * thickness - 1) & (classes > 0)
    drawn[edges] = colours[classes[edges]]
    return drawn


def mark(
    picture: np.ndarray, labels: np.ndarray, wrong: np.ndarray, colour: tuple[int, int, int]
) -> np.ndarray:
    """Tints some instances, and draws thick outlines around them.

    Args:
      picture: [H, W, 3] uint8.
      labels: [H, W] int, the ids 1 to N.
      wrong: [N] bool, which instances are marked.
      colour: colour of the tint and the outline.

    Returns:
      [H, W, 3] uint8.
    """
    ids = np.where(np.append(False, wrong)[labels], labels, 0)
    edges = find_boundaries(ids, connectivity=2, mode="inner")
    edges = ndimage.maximum_filter(edges, 2 * BOLD - 1) & (ids > 0)
    tinted = np.where((ids > 0)[..., None], (1 - TINT) * picture + TINT * np.array(colour), picture)
    tinted[edges] = colour
    return np.round(tinted).astype(np.uint8)


def resized(
    image: np.ndarray, segmentations: Sequence[Segmentation], width: int
) -> tuple[np.ndarray, list[Segmentation]]:
    """Resizes an image and its segmentations, so that outlines drawn later stay thin.

    Instances smaller than a pixel of the result may disappear.

    Args:
      image: [H, W, C] image, any real dtype.
      segmentations: segmentations of `image`, each [H, W].
      width: width of the result, pixels.

    Returns:
      The image as [h, width, 3] uint8 for display, and the segmentations.
    """
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    picture = Image.fromarray(to_display_rgb(image)).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture), [resize_segmentation(each, (height, width)) for each in segmentations]


def legend(picture: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Adds a legend of the foreground class colours below a picture.

    Args:
      picture: [H, W, 3] uint8.
      class_names: K names, background first.

    Returns:
      [H + strip, W, 3] uint8.
    """
    font = ImageFont.load_default(TEXT)
    entries, x, line = [], GAP, 0
    for index, name in enumerate(class_names[1:], start=1):
        width = TEXT + GAP + round(font.getlength(name))
        if x > GAP and x + width > picture.shape[1]:
            x, line = GAP, line + 1
        entries.append((x, line, index, name))
        x += width + 2 * GAP
    strip = Image.new("RGB", (picture.shape[1], (line + 1) * (TEXT + GAP) + GAP), "white")
    draw = ImageDraw.Draw(strip)
    for x, line, index, name in entries:
        y = GAP + line * (TEXT + GAP)
        draw.rectangle((x, y, x + TEXT - 1, y + TEXT - 1), fill=colour_of(index), outline="black")
        draw.text((x + TEXT + GAP, y + TEXT // 2), name, fill="black", font=font, anchor="lm")
    return np.concatenate([picture, np.asarray(strip)])
