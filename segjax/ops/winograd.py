"""3 x 3 convolutions by Winograd's minimal filtering F(4 x 4, 3 x 3), in plain JAX.

A tile of 4 x 4 outputs costs 36 products per pair of channels instead of 144 (Lavin and Gray,
https://arxiv.org/abs/1509.09308). The computation consists of 36 independent matrix products, and of sums
over the pixels of a tile before and after them. Square blocks of tiles are computed one after another, to
limit memory and keep intermediate values in cache. XLA compiles equal kernels once; with blocks of
one shape, layers that differ only in image size share kernels.
"""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# Outputs per side of a tile.
TILE = 4
# Tiles per side of a block. Smaller blocks make the matrix products slow, larger ones leave the cache.
SIDE = 16
# The interpolation points besides infinity. They have two thirds of the error of 0, 1, -1, 2, -2
# (Barabasz et al., https://arxiv.org/abs/1803.10986).
POINTS = (0.0, 1.0, -1.0, 2.0, -0.5)


class Transforms(NamedTuple):
    """Matrices of a 1-D filter: `output @ ((kernel @ w) * (input @ x))` correlates pixels x with weights w.

    Attributes:
      input: [TILE + 2, TILE + 2], transforms the TILE + 2 pixels.
      kernel: [TILE + 2, 3], transforms the three weights.
      output: [TILE, TILE + 2], transforms the products to TILE outputs.
    """

    input: np.ndarray
    kernel: np.ndarray
    output: np.ndarray


def toom_cook(points: tuple[float, ...]) -> Transforms:
    """Returns the Toom-Cook transforms for the interpolation points and infinity."""
    others = [np.delete(points, index) for index in range(len(points))]
    scale = [np.prod(point - rest) for point, rest in zip(points, others, strict=True)]
    return Transforms(
        np.array([[*np.poly(rest)[::-1], 0] for rest in others] + [np.poly(points)[::-1]]),
        np.concatenate([np.vander(points, 3, increasing=True) / np.array(scale)[:, None], np.eye(3)[[2]]]),
        np.concatenate([np.vander(points, TILE, increasing=True).T, np.eye(TILE)[:, [-1]]], axis=1),
    )


TRANSFORMS = toom_cook(POINTS)


class Blocks(NamedTuple):
    """Division of a batch into equal blocks of tiles.

    Attributes:
      shape: number of images, rows of tiles and columns of tiles in a block.
      grid: number of blocks along batch, height and width.
    """

    shape: tuple[int, int, int]
    grid: tuple[int, int, int]

    @property
    def pixels(self) -> tuple[int, int, int]:
        """Images, height and width of a block."""
        return self.shape[0], TILE * self.shape[1], TILE * self.shape[2]

    @property
    def padded(self) -> tuple[int, int, int]:
        """Images, height and width of all blocks."""
        batch, height, width = (n * size for n, size in zip(self.grid, self.pixels, strict=True))
        return batch, height, width

    def start(self, index: Array | int) -> tuple[Array | int, ...]:
        """Returns the batch, row, column and channel indices at which block `index` begins."""
        _, rows, columns = self.grid
        position = (index // (rows * columns), index // columns % rows, index % columns)
        return (*(n * size for n, size in zip(position, self.pixels, strict=True)), 0)


def divide(batch: int, height: int, width: int) -> Blocks:
    """Divides a batch into blocks of at most SIDE x SIDE tiles; a block may hold several small images."""
    rows, num_rows = _split(-(-height // TILE), SIDE)
    columns, num_columns = _split(-(-width // TILE), SIDE)
    images, num_images = _split(batch, SIDE**2 // (rows * columns) if num_rows * num_columns == 1 else 1)
    return Blocks((images, rows, columns), (num_images, num_rows, num_columns))


def _split(number: int, limit: int) -> tuple[int, int]:
    """Splits a number into as few parts of at most `limit` as possible; returns their size and count."""
    parts = -(-number // limit)
    return -(-number // parts), parts


def correlate(x: Array, kernel: Array, *, transposed: bool = False) -> Array:
    """Correlates images with a 3 x 3 kernel, with stride 1 and zero padding of one pixel.

    Args:
      x: [B, H, W, C] float32.
      kernel: [3, 3, C, C'], or [3, 3, C', C] if `transposed`.
      transposed: rotate the kernel by 180 degrees and swap its channels. With the gradient of the result as
        `x`, this is the gradient with respect to the input.

    Returns:
      [B, H, W, C'].
    """
    batch, height, width, _ = x.shape
    blocks = divide(batch, height, width)
    matrix = TRANSFORMS.kernel[:, ::-1] if transposed else TRANSFORMS.kernel
    weights = (_two_dimensional(matrix) @ kernel.reshape(9, -1)).reshape(-1, *kernel.shape[2:])
    contraction = (((2,), (2 if transposed else 1,)), ((0,), (0,)))
    padded = _pad(x, blocks, 1)

    def convolve_block(index: Array | int) -> Array:
        tiles = _to_tiles(_block(padded, index, blocks, 1), TRANSFORMS.input, blocks)
        return _to_pixels(lax.dot_general(tiles, weights, contraction), TRANSFORMS.output, blocks)

    def body(index: Array, y: Array) -> Array:
        return lax.dynamic_update_slice(y, convolve_block(index), blocks.start(index))

    count = math.prod(blocks.grid)
    zeros = jnp.zeros((*blocks.padded, kernel.shape[2 if transposed else 3]), x.dtype)
    y = convolve_block(0) if count == 1 else lax.fori_loop(0, count, body, zeros)
    return y[:batch, :height, :width]


def kernel_gradient(x: Array, gradient: Array) -> Array:
    """Returns the gradient of `correlate` with respect to its kernel.

    Args:
      x: [B, H, W, C] float32, the input of `correlate`.
      gradient: [B, H, W, C'], the gradient with respect to the result of `correlate`.

    Returns:
      [3, 3, C, C'].
    """
    blocks = divide(*x.shape[:3])
    shape = (3, 3, x.shape[-1], gradient.shape[-1])
    padded_x, padded_gradient = _pad(x, blocks, 1), _pad(gradient, blocks, 0)

    def gradient_of_block(index: Array | int) -> Array:
        inputs = _to_tiles(_block(padded_x, index, blocks, 1), TRANSFORMS.input, blocks)
        outputs = _to_tiles(_block(padded_gradient, index, blocks, 0), TRANSFORMS.output.T, blocks)
        return lax.dot_general(inputs, outputs, (((1,), (1,)), ((0,), (0,))))

    count = math.prod(blocks.grid)
    zeros = jnp.zeros(((TILE + 2) ** 2, *shape[2:]), x.dtype)
    total = (
        gradient_of_block(0)
        if count == 1
        else lax.fori_loop(0, count, lambda index, total: total + gradient_of_block(index), zeros)
    )
    return (_two_dimensional(TRANSFORMS.kernel).T @ total.reshape(len(total), -1)).reshape(shape)


def _two_dimensional(matrix: np.ndarray) -> Array:
    """Returns [n^2, 9]: `matrix` [n, 3] along both axes, its rows in the order of `_to_tiles`."""
    product = np.einsum("vj,ui->vuij", matrix, matrix)
    return jnp.asarray(product.reshape(-1, 9), jnp.float32)


def _pad(x: Array, blocks: Blocks, border: int) -> Array:
    """Adds zeros up to a multiple of the block and `border` pixels around it."""
    after = [full - size for full, size in zip(blocks.padded, x.shape, strict=False)]
    if not border and not any(after):
        return x
    padding = ((0, after[0]), (border, after[1] + border), (border, after[2] + border), (0, 0))
    # Without the barrier, XLA recomputes x for every slice.
    return lax.optimization_barrier(jnp.pad(x, padding))


def _block(padded: Array, index: Array | int, blocks: Blocks, border: int) -> Array:
    """Returns block `index` and `border` pixels around it."""
    images, height, width = blocks.pixels
    size = (images, height + 2 * border, width + 2 * border, padded.shape[-1])
    # The barrier keeps the shape of the full image out of the kernel of the transform.
    return lax.optimization_barrier(lax.dynamic_slice(padded, blocks.start(index), size))


def _to_tiles(x: Array, matrix: np.ndarray, blocks: Blocks) -> Array:
    """Applies `matrix` [n, p] to the rows and columns of each tile: pixels to [n^2, tiles, C]."""
    _, rows, columns = blocks.shape
    for axis, count in ((1, rows), (3, columns)):
        x = jnp.stack(_combine(matrix, [_every_tile(x, axis, i, count) for i in range(matrix.shape[1])]))
    return x.reshape(matrix.shape[0] ** 2, -1, x.shape[-1])


def _to_pixels(x: Array, matrix: np.ndarray, blocks: Blocks) -> Array:
    """Applies `matrix` [TILE, n] to both axes of each tile: [n^2, tiles, C] to pixels."""
    n = matrix.shape[1]
    x = x.reshape(n, n, *blocks.shape, -1)
    x = jnp.stack(_combine(matrix, list(x)), -2)
    x = jnp.stack(_combine(matrix, list(x)), 2)
    return x.reshape(*blocks.pixels, -1)


def _every_tile(x: Array, axis: int, start: int, count: int) -> Array:
    """Returns element `start` of each of `count` tiles along `axis`."""
    return lax.slice_in_dim(x, start, start + TILE * (count - 1) + 1, TILE, axis)


def _combine(matrix: np.ndarray, terms: list[Array]) -> list[Array]:
    """Multiplies a matrix and a vector as explicit sums of nonzero terms, which XLA fuses into one loop."""
    return [
        functools.reduce(jnp.add, [float(c) * x for c, x in zip(row, terms, strict=True) if c])
        for row in matrix
    ]
