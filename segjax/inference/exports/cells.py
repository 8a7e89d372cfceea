"""The segmentation of one image, with the outlines and measurements that several formats use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from segjax.classical.measurements import Table, measure
from segjax.inference.neighbours import Radius, count_neighbours
from segjax.inference.polygons import Polygon, trace
from segjax.segmentation import Segmentation


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one image.

    Attributes:
      name: name of the image.
      image: [H, W, C], the pixels as they were read.
      segmentation: [H, W], the cells.
      class_names: K names, background first.
      display: `image [H, W, C] -> picture [H, W, 3] uint8`.
      colour_of: `class -> RGB`, 0 to 255.
      pixel_size: side of a pixel in micrometres, None if it is unknown.
      radius: the table counts the other cells within this radius; None for no such column.
      uncertainty: [H, W], the uncertainty of each pixel from 0 to 1; None if it is unknown.
    """

    name: str
    image: np.ndarray
    segmentation: Segmentation
    class_names: Sequence[str]
    display: Callable[[np.ndarray], np.ndarray]
    colour_of: Callable[[int], tuple[int, int, int]]
    pixel_size: float | None = None
    radius: Radius | None = None
    uncertainty: np.ndarray | None = None

    @cached_property
    def picture(self) -> np.ndarray:
        """[H, W, 3] uint8, the image for display."""
        return self.display(self.image)

    @cached_property
    def outlines(self) -> list[list[Polygon]]:
        """The polygons of each cell, see `trace`."""
        return trace(self.segmentation.labels)

    @cached_property
    def cell_uncertainty(self) -> np.ndarray | None:
        """[N] float64, the mean uncertainty of the pixels of each cell; None if it is unknown."""
        if self.uncertainty is None:
            return None
        labels, count = self.segmentation.labels.ravel(), self.segmentation.num_instances
        sums = np.bincount(labels, self.uncertainty.ravel(), count + 1)
        return (sums / np.maximum(np.bincount(labels, minlength=count + 1), 1))[1:]

    @cached_property
    def table(self) -> Table:
        """The measurements of each cell, see `measure`, with its neighbours and uncertainty if asked for."""
        table = measure(
            self.image, self.segmentation, pixel_size=self.pixel_size, class_names=self.class_names
        )
        if self.radius is not None:
            centroids = np.column_stack([table["centroid_y_px"], table["centroid_x_px"]])
            table[self.radius.column] = count_neighbours(
                centroids, self.radius.in_pixels(self.pixel_size, self.name)
            )
        if self.cell_uncertainty is not None:
            table["uncertainty"] = self.cell_uncertainty
        return table

    def class_of(self, index: int) -> str:
        """Returns the name of the class of cell `index`, counted from 0."""
        return self.class_names[int(self.segmentation.classes[index])]
