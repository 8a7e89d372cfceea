"""How a method segments the tiles of a large image, in three steps that run at the same time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from segjax.data.preprocess import Preprocessing
from segjax.data.readers.lazy import Level, Rescaled
from segjax.errors import InputError
from segjax.inference.dense import DensePredictor
from segjax.inference.large.grid import CHUNK, Box, Grid
from segjax.inference.large.intensities import Intensities, Prepared
from segjax.segmentation import Method, Segmentation
from segjax.segmentation.masks import class_bytes
from segjax.segmentation.resize import resize_window
from segjax.tasks.semantic import SemanticTask

# Side of the windows of a network, in its pixels: larger ones need more memory, but less work per pixel.
SIDE = 1664
# Width of the halo, in which cells of the core are completed: in typical diameters, and at least in pixels.
DIAMETERS, HALO = 3, 64
# Side of the core and width of the halo for methods that predict no maps, pixels.
PLAIN_CORE, PLAIN_HALO = 1536, 128


class Decoded(NamedTuple):
    """The segmentation of the window of a tile.

    Attributes:
      labels: [H, W] int32, instances 1..N, of which some may have no pixel.
      classes: [N] int32.
      scores: [N] float32.
      areas: [N] int64, pixels at the resolution of the network.
      semantic: [H, W] uint8, the class of each pixel, 255 where it is `IGNORE`.
    """

    labels: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    semantic: np.ndarray


class TileMethod(Protocol):
    """A method that segments windows of an image; `load` and `decode` run in threads."""

    @property
    def grid(self) -> Grid:
        """The tiles."""

    @property
    def min_fraction(self) -> float:
        """Instances below this fraction of the typical area of their class in the image are dropped."""

    def load(self, window: Box) -> Any:
        """Reads what `predict` needs for a window."""

    def predict(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """Starts the work of the device for some windows."""

    def decode(self, outputs: Any, window: Box) -> Decoded:
        """Segments a window of the image."""


class PlainTiles:
    """Segments each window as an image of its own, for methods that predict no maps.

    Args:
      method: the method.
      level: the image.
    """

    min_fraction, side = 0.0, PLAIN_CORE + 2 * PLAIN_HALO

    def __init__(self, method: Method, level: Level) -> None:
        self._method, self._level = method, level
        self.grid = Grid(level.shape[:2], PLAIN_CORE, PLAIN_HALO)

    def load(self, window: Box) -> np.ndarray:
        """Reads the pixels."""
        return self._level.read(window.top, window.left, *window.shape)

    def predict(self, inputs: Sequence[np.ndarray]) -> Sequence[Segmentation]:
        """Segments the windows."""
        return [self._method(pixels) for pixels in inputs]

    def decode(self, outputs: Segmentation, window: Box) -> Decoded:
        """Returns the segmentation."""
        del window
        areas = np.bincount(outputs.labels.ravel(), minlength=outputs.num_instances + 1)[1:]
        return Decoded(outputs.labels, outputs.classes, outputs.scores, areas, class_bytes(outputs.semantic))


@dataclasses.dataclass(frozen=True)
class Scale:
    """How a network sees an image.

    Attributes:
      factor: scale factor from the image to the input of the network, after that of its preprocessing.
      margin: width along the inner edges of a window whose outputs are not used, pixels of the network.
      diameter: typical diameter of the cells in these pixels, None if it is unknown.
    """

    factor: float
    margin: int
    diameter: float | None


class DenseTiles:
    """Segments windows by a network that predicts maps, as `DensePredictor` segments a full image.

    Args:
      predictor: the network.
      level: the image.
      intensities: intensities of the image, see `measure_intensities`.
      scale: how the network sees the image, see `measure_scale`.
    """

    def __init__(
        self, predictor: DensePredictor, level: Level, intensities: Intensities, scale: Scale
    ) -> None:
        self._predictor, self._scale, self._stride = predictor, scale, predictor.task.stride
        self._level = network_input(predictor, level, intensities, scale.factor)
        self.min_fraction, self._task = 0.0, predictor.task
        if isinstance(self._task, SemanticTask):
            self.min_fraction = self._task.config.min_fraction
            config = dataclasses.replace(self._task.config, min_fraction=0.0)
            self._task = dataclasses.replace(self._task, config=config)
        shape, network = level.shape[:2], self._level.shape[:2]
        self._ratio = max(new / old for new, old in zip(network, shape, strict=True))
        halo = HALO if scale.diameter is None else max(HALO, DIAMETERS * scale.diameter)
        halo = int(np.ceil(halo / self._ratio))
        edge = 2 * (scale.margin + self._stride + 1) + 2 * halo * self._ratio
        core = max(int((SIDE - edge) / self._ratio) // CHUNK, 1) * CHUNK
        # The smallest core with the same number of tiles.
        number = -(-max(shape) // core)
        core = -(-max(shape) // (number * CHUNK)) * CHUNK
        self.grid = Grid((shape[0], shape[1]), core, halo)
        side = int(np.ceil(min(core, max(shape)) * self._ratio + edge))
        padded = [-(-length // self._stride) * self._stride for length in network]
        self._side = min(-(-side // self._stride) * self._stride, max(padded))
        self._padded = [max(length, self._side) for length in padded]

    def load(self, window: Box) -> np.ndarray:
        """Reads the input of the network, [S, S, C] float32."""
        top, left = self._corner(window)
        height, width = (
            min(start + self._side, length) - start
            for start, length in zip((top, left), self._level.shape[:2], strict=True)
        )
        pixels = self._level.read(top, left, height, width)
        padding = [(0, self._side - height), (0, self._side - width), (0, 0)]
        return np.pad(pixels, padding, mode="symmetric")

    def predict(self, inputs: Sequence[np.ndarray]) -> Sequence[dict[str, jax.Array]]:
        """Starts the network, on the default device of the thread."""
        outputs = self._predictor.predict_windows(np.stack(inputs))
        return [{name: values[index] for name, values in outputs.items()} for index in range(len(inputs))]

    def decode(self, outputs: dict[str, jax.Array], window: Box) -> Decoded:
        """Separates the instances at the resolution of the network, and resizes them."""
        corner, known = self._corner(window), self._known(window)
        inside = tuple(
            slice(start - first, stop - first) for (start, stop), first in zip(known, corner, strict=True)
        )
        maps = {name: np.asarray(values)[inside].astype(np.float32) for name, values in outputs.items()}
        result = self._task.segment(maps)
        areas = np.bincount(result.labels.ravel(), minlength=result.num_instances + 1)[1:]
        sizes = (self._level.shape[:2], self.grid.shape)
        part = (slice(window.top, window.bottom), slice(window.left, window.right))
        first = (known[0][0], known[1][0])
        labels, semantic = (
            resize_window(values, first, sizes, part)
            for values in (result.labels, class_bytes(result.semantic))
        )
        return Decoded(labels, result.classes, result.scores, areas, semantic)

    def _known(self, window: Box) -> list[tuple[int, int]]:
        """Returns the range of rows, and that of columns, of the network's pixels that determine a window."""
        edges = ((window.top, window.bottom), (window.left, window.right))
        sizes = zip(edges, self._level.shape[:2], self.grid.shape, strict=True)
        return [
            (max(start * new // old - 1, 0), min(-(-stop * new // old) + 1, new))
            for (start, stop), new, old in sizes
        ]

    def _corner(self, window: Box) -> tuple[int, int]:
        """Returns the first row and column of the input of the network, multiples of its stride."""
        starts = [
            min(max(start - self._scale.margin, 0) // self._stride * self._stride, padded - self._side)
            for (start, _), padded in zip(self._known(window), self._padded, strict=True)
        ]
        return starts[0], starts[1]


def network_input(predictor: DensePredictor, level: Level, intensities: Intensities, factor: float) -> Level:
    """Returns the input of a network: the image after its preprocessing and then `resize_image`."""
    prepared: Level = Prepared(level, intensities)
    for each in (preprocessing(predictor).scale, factor):
        prepared = prepared if each == 1 else Rescaled(prepared, each)
    return prepared


def preprocessing(predictor: DensePredictor) -> Preprocessing:
    """Returns the settings of the preprocessing.

    Raises:
      InputError: if the predictor has a preprocessing of its own.
    """
    if not isinstance(predictor.prepare, Preprocessing):
        raise InputError(
            "a large image needs a network with segjax's preprocessing: give another network, or a smaller"
            " image"
        )
    return predictor.prepare
