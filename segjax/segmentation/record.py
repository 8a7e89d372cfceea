"""The `Segmentation` record shared by methods, metrics, reports and exports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy import ndimage
from skimage.draw import polygon as fill_polygon

from segjax.segmentation.masks import Cutout, map_classes, paint, renumber
from segjax.typing import IGNORE


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation:
    """Instances and classes of one image, on the host: a prediction of any method, or an annotation.

    >>> segmentation = Segmentation.from_labels(np.array([[0, 7, 7], [4, 7, 7]]), classes=[2, 1])
    >>> segmentation.num_instances, segmentation.labels.tolist()
    (2, [[0, 2, 2], [1, 2, 2]])
    >>> segmentation.class_map.tolist(), segmentation.boxes.tolist()
    ([[0, 1, 1], [2, 1, 1]], [[0, 1, 1, 2], [1, 0, 3, 2]])

    Attributes:
      labels: [H, W] int32, 0 where there is no instance, 1..N the instances, without gaps.
      classes: [N] int32, the class of instance i + 1, at least 1.
      scores: [N] float32, the confidence in instance i + 1; 1 where a method has none.
      semantic: [H, W] int32, the class of every pixel, 0 for background, `IGNORE` where not evaluated.

    Raises:
      ValueError: if shapes, types or ids contradict each other.
    """

    labels: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    semantic: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype, ndim in (
            ("labels", np.int32, 2),
            ("classes", np.int32, 1),
            ("scores", np.float32, 1),
            ("semantic", np.int32, 2),
        ):
            value = getattr(self, name)
            if not isinstance(value, np.ndarray) or value.dtype != dtype or value.ndim != ndim:
                raise ValueError(
                    f"Segmentation.{name} must be a NumPy array of {np.dtype(dtype)} with {ndim} dimensions;"
                    " Segmentation.from_labels makes one from any label map"
                )
        if self.labels.shape != self.semantic.shape:
            raise ValueError(f"labels {self.labels.shape} and semantic {self.semantic.shape} differ in shape")
        if self.classes.shape != self.scores.shape:
            raise ValueError(f"{len(self.classes)} classes but {len(self.scores)} scores")
        count, highest = len(self.classes), int(self.labels.max(initial=0))
        lowest = int(self.labels.min(initial=0))
        # Count only run starts along rows, as every id has one; bincount runs only after the range checks.
        begins = self.labels[:, 1:][self.labels[:, 1:] != self.labels[:, :-1]]
        if (
            lowest < 0
            or highest != count
            or not np.bincount(np.concatenate([self.labels[:, :1].ravel(), begins]), minlength=1)[1:].all()
        ):
            present = np.unique(self.labels)
            raise ValueError(
                f"labels hold {np.count_nonzero(present)} ids up to {highest}, but there are"
                f" {count} classes: ids must be 1..N without gaps"
            )
        if (self.classes < 1).any():
            raise ValueError("the class of an instance must be at least 1: 0 is background")

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> Segmentation:
        """Returns the segmentation of an image `[H, W]` without instances."""
        nothing = np.zeros(shape, np.int32)
        return cls(nothing, np.zeros(0, np.int32), np.zeros(0, np.float32), nothing)

    @classmethod
    def from_labels(
        cls,
        labels: np.ndarray,
        *,
        classes: Sequence[int] | np.ndarray | None = None,
        scores: Sequence[float] | np.ndarray | None = None,
        semantic: np.ndarray | None = None,
    ) -> Segmentation:
        """Makes a segmentation from a label map whose ids may have gaps.

        Args:
          labels: [H, W] integer, 0 is background.
          classes: class of each id present, in ascending order of ids; all 1 if None.
          scores: score of each id present, in ascending order of ids; all 1 if None.
          semantic: [H, W] integer; each pixel's class is that of its instance if None.

        Returns:
          The segmentation with ids renumbered 1..N in ascending order.

        Raises:
          ValueError: if `labels` is not a 2-D integer map of ids >= 0, or the lengths do not fit.
        """
        labels = np.asarray(labels)
        if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"a label map is a 2-D array of integers, not {labels.dtype} of shape {labels.shape}"
            )
        if labels.min(initial=0) < 0:
            raise ValueError(f"a label map holds ids of at least 0, not {labels.min()}")
        dense, count = renumber(labels)
        per_instance = np.ones(count, np.int32) if classes is None else np.asarray(classes, np.int32)
        confidence = np.ones(count, np.float32) if scores is None else np.asarray(scores, np.float32)
        if len(per_instance) != count:
            raise ValueError(f"{count} instances in the label map but {len(per_instance)} classes")
        semantic = map_classes(dense, per_instance) if semantic is None else np.array(semantic, np.int32)
        return cls(dense, per_instance, confidence, semantic)

    @classmethod
    def from_polygons(
        cls,
        polygons: Sequence[np.ndarray],
        shape: tuple[int, int],
        *,
        classes: Sequence[int] | np.ndarray | None = None,
    ) -> Segmentation:
        """Makes a segmentation from outlines.

        Args:
          polygons: each [V, 2] float, vertices as `(x, y)` in pixels, pixel centres at integers.
            Where they overlap, the later one wins.
          shape: `(H, W)`.
          classes: class of each polygon; all 1 if None. A polygon that covers no pixel, or is fully covered
            by later ones, is left out together with its class.

        Returns:
          The segmentation.
        """
        labels = np.zeros(shape, np.int32)
        for index, vertices in enumerate(polygons, start=1):
            x, y = np.asarray(vertices, float).T
            labels[fill_polygon(y, x, shape)] = index
        return cls._from_indices(labels, classes)

    @classmethod
    def from_masks(
        cls,
        masks: Iterable[np.ndarray],
        shape: tuple[int, int],
        *,
        classes: Sequence[int] | np.ndarray | None = None,
    ) -> Segmentation:
        """Makes a segmentation from one mask for each instance.

        Args:
          masks: each [H, W] bool. Where they overlap the smaller one is on top, of equal ones the later.
          shape: `(H, W)`.
          classes: class of each mask; all 1 if None. A mask that is empty, or fully covered by others, is
            left out together with its class.

        Returns:
          The segmentation; ids follow the order of the masks.
        """
        return cls._from_indices(paint([Cutout.of(mask) for mask in masks], shape), classes)

    @classmethod
    def _from_indices(
        cls, labels: np.ndarray, classes: Sequence[int] | np.ndarray | None = None
    ) -> Segmentation:
        """Makes a segmentation from labels that are 1 + an index into `classes`."""
        visible = (
            None if classes is None else np.asarray(classes, np.int32)[np.unique(labels[labels > 0]) - 1]
        )
        return cls.from_labels(labels, classes=visible)

    @property
    def shape(self) -> tuple[int, int]:
        """`(H, W)`."""
        return self.labels.shape

    @property
    def num_instances(self) -> int:
        """N."""
        return len(self.classes)

    @property
    def class_map(self) -> np.ndarray:
        """[H, W] int32, the class of each pixel's instance, 0 where there is none."""
        return map_classes(self.labels, self.classes)

    @property
    def boxes(self) -> np.ndarray:
        """[N, 4] int, the bounding box `(x0, y0, x1, y1)` of every instance, pixels."""
        slices = ndimage.find_objects(self.labels)
        return np.array([(x.start, y.start, x.stop, y.stop) for y, x in slices], int).reshape(-1, 4)

    def of_class(self, index: int) -> Segmentation:
        """Returns only the instances of one class, renumbered; `IGNORE` pixels of `semantic` stay."""
        selected = self.classes == index
        labels = np.where(self.class_map == index, self.labels, 0)
        semantic = np.where((self.semantic == index) | (self.semantic == IGNORE), self.semantic, 0)
        return Segmentation.from_labels(
            labels, classes=self.classes[selected], scores=self.scores[selected], semantic=semantic
        )


# A method, learned or not, maps an image [H, W, C] of any real dtype to its Segmentation.
Method = Callable[[np.ndarray], Segmentation]
