"""Benchmark of predictions: mosaics of real cells, segmented in parts, and a folder of small images."""

import multiprocessing
import resource
import shutil
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
from ml_collections import ConfigDict

from segjax.experiment import environment, prediction_large
from segjax.experiment.export_formats import Exports
from segjax.experiment.methods import with_diameter
from segjax.experiment.prediction import Reading, predict
from segjax.experiment.prediction_methods import select_method
from segjax.experiment.prediction_view import View
from segjax.experiment.setup import open_split
from segjax.inference.large.cells import Measuring
from segjax.inference.large.grid import Grid
from segjax.inference.large.methods import DenseTiles
from segjax.inference.large.stitching import stitch
from segjax.inference.large.store import StoredTile, TileStore, pieces_of
from segjax.metrics.instance import InstanceStatistics
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import renumber

# Side of the squares of a mosaic, and the mean of 8 bits above which an image is bright field.
SQUARE, BRIGHT = 256, 90
FORMATS = ("ome-tiff", "csv", "geojson")
# Goals: fraction of the time for post-processing and export, and memory in bytes.
MAX_FRACTION, MAX_MEMORY = 0.15, 2e9
# Number of the small images, and sides of the images that are compared and joined, pixels.
NUM_SMALL, COMPARED, JOINED = 200, 4096, 16_384
# At the lower and the right border, images are padded to different sizes, so that cells may differ: pixels.
BORDER = 256


def main(config: ConfigDict, *, sizes: list[str], model: str, out: str) -> None:
    """Prints time and memory for the mosaics, and the agreement of tiles with full images.

    Args:
      config: a config whose test split has images of fluorescence.
      sizes: sides of the mosaics, pixels.
      model: an exported network, or the name of one in the package.
      out: folder for mosaics and results.
    """
    where = environment.hardware_info()
    print(f"{where['device']}, {where['cores']} cores, Python {where['python']}, {', '.join(FORMATS)}")
    squares, results = cut_squares(config), Path(out)
    context = multiprocessing.get_context("spawn")
    for size in map(int, sizes):
        path = results / "images" / f"mosaic{size}.tif"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, mosaic(squares, size), tile=(512, 512), compression="zlib")
        with context.Pool(1) as pool:
            print_large(size, pool.apply(large, (path, results / f"result{size}", model)))
    with context.Pool(1) as pool:
        count, scores = pool.apply(compare, (mosaic(squares, COMPARED), results / "compared", model))
    print(
        f"\n{COMPARED} x {COMPARED} in tiles against at once, without the lower and the right {BORDER}"
        f" pixels: {count} cells, AP at .9 {scores:.4f} (goal 1)"
    )
    with context.Pool(1) as pool:
        cells, seconds = pool.apply(join, (results / "joined",))
    print(
        f"{cells} cells in {JOINED} x {JOINED} pixels are joined in {seconds:.1f} s (goal 30 for a million)"
    )
    small = [mosaic(squares, 512, seed) for seed in range(NUM_SMALL)]
    with context.Pool(1) as pool:
        seconds = pool.apply(folder, (small, results / "folder", model))
    print(f"folder of {NUM_SMALL} images of 512 x 512: {seconds:.1f} s, {NUM_SMALL / seconds:.2f} images/s")


def cut_squares(config: ConfigDict) -> list[np.ndarray]:
    """Returns squares [SQUARE, SQUARE] uint8 of the grey fluorescence images of the test split."""
    squares = []
    source = open_split(config, "test")
    for index in range(len(source)):
        image = source[index].image
        is_grey = (image == image[..., :1]).all() and image[..., 0].mean() < BRIGHT
        if image.dtype == np.uint8 and is_grey:
            for top in range(0, image.shape[0] - SQUARE + 1, SQUARE):
                for left in range(0, image.shape[1] - SQUARE + 1, SQUARE):
                    squares.append(image[top : top + SQUARE, left : left + SQUARE, 0])
    return squares


def mosaic(squares: list[np.ndarray], size: int, seed: int = 0) -> np.ndarray:
    """Returns an image [size, size] of squares in random order and orientation."""
    rng, number = np.random.default_rng(seed), -(-size // SQUARE)
    image = np.zeros((number, SQUARE, number, SQUARE), np.uint8)
    for row in range(number):
        for column in range(number):
            square = squares[rng.integers(len(squares))]
            image[row, :, column] = np.rot90(square, int(rng.integers(4)))
    return image.reshape(number * SQUARE, number * SQUARE)[:size, :size]


def print_large(size: int, result: dict[str, Any]) -> None:
    """Prints the numbers of one mosaic."""
    wall, after = result["seconds"], result["after"]
    print(
        f"\n{size} x {size}, {result['cells']} cells: {wall:.1f} s ({1e6 * wall / size**2:.3f} us per pixel),"
        f" {result['processor']:.1f} s of one core; peak {result['peak'] / 1e9:.2f} GB,"
        f" {result['added'] / 1e9:.2f} GB above the opened network (goal {MAX_MEMORY / 1e9:g})"
    )
    print(
        f"  joining and export {after / wall:.0%} of the time, decoding and measuring"
        f" {result['threads'] / wall:.2f} threads beside the network (goal of all: {MAX_FRACTION:.0%})"
    )
    print("  " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result["parts"].items()))


def large(path: Path, out: Path, model: str) -> dict[str, Any]:
    """Segments a mosaic in parts, in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    method = select_method(model=model)
    before = psutil.Process().memory_info().rss
    parts: dict[str, float] = defaultdict(float)
    names = ("measure_intensities", "measure_scale", "segment_tiles", "stitch")
    for name in names:
        setattr(prediction_large, name, timed(getattr(prediction_large, name), name, parts))
    threads: dict[str, float] = defaultdict(float)
    for owner, method_name, name in ((DenseTiles, "decode", "decode"), (Measuring, "__call__", "measure")):
        setattr(owner, method_name, timed(getattr(owner, method_name), name, threads))
    for name, write in list(prediction_large.WRITERS.items()):
        prediction_large.WRITERS[name] = timed(write, name, parts)
    used, began = time.process_time(), time.perf_counter()
    prediction = predict(method, path, out, exports=Exports(FORMATS), reading=Reading(view=View(level=0)))
    cells = sum(count for _, count in prediction)
    seconds = time.perf_counter() - began
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "cells": cells,
        "seconds": seconds,
        "processor": time.process_time() - used,
        "peak": peak,
        "added": peak - before,
        "after": sum(parts[name] for name in ("stitch", *FORMATS)),
        "threads": threads["decode"] + threads["measure"],
        "parts": {**parts, **threads},
    }


def timed(function: Any, name: str, parts: dict[str, float]) -> Any:
    """Returns a function that adds its seconds to `parts`."""

    def call(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            parts[name] += time.perf_counter() - began

    return call


def compare(image: np.ndarray, out: Path, model: str) -> tuple[int, float]:
    """Returns the number of cells, and the AP at .9 of tiles against the image predicted at once."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    tifffile.imwrite(out / "image.tif", image, tile=(512, 512))
    # One diameter for both, because each would estimate it from other windows.
    method = with_diameter(select_method(model=model), 20.0)
    reading = Reading(view=View(level=0))
    list(predict(method, out / "image.tif", out, exports=Exports(("ome-tiff",)), reading=reading))
    tiles = tifffile.imread(out / "image_cells.ome.tif")[0].astype(np.int32)
    inner = slice(0, COMPARED - BORDER)
    full = Segmentation.from_labels(method(image).labels[inner, inner])
    scores = InstanceStatistics.of(full, Segmentation.from_labels(tiles[inner, inner])).compute()
    return full.num_instances, scores.ap[0.9]


def join(folder: Path) -> tuple[int, float]:
    """Returns the number of cells of an image full of small ones, and the seconds that joining takes."""
    store, grid = TileStore(folder), Grid((JOINED, JOINED), 1280, 64)
    side, number = 16, JOINED // 16
    y, x = np.indices((side, side)) - (side - 1) / 2
    inside = y**2 + x**2 < (0.45 * side) ** 2
    for tile in grid.tiles():
        # Rows and columns of the cells, which give ids that are the same in all tiles.
        rows, columns = (
            np.arange(start, stop) // side
            for start, stop in (
                (tile.window.top, tile.window.bottom),
                (tile.window.left, tile.window.right),
            )
        )
        ids = (rows[:, None] - rows[0]) * (columns[-1] - columns[0] + 1) + columns - columns[0] + 1
        mask = np.tile(inside, (number, 1))[tile.window.top : tile.window.bottom]
        mask = np.tile(mask, (1, number))[:, tile.window.left : tile.window.right]
        labels, count = renumber(np.where(mask, ids, 0))
        pieces = pieces_of(labels, count, tile)
        ones = np.ones(count, np.int32)
        scores = np.ones(count, np.float32)
        semantic = mask.astype(np.uint8)
        store.write(tile, StoredTile(labels, semantic, ones, scores, np.ones(count, np.int64), pieces, {}))
    began = time.perf_counter()
    cells = stitch(grid, grid.tiles(), store.read).num_cells
    return cells, time.perf_counter() - began


def folder(images: list[np.ndarray], out: Path, model: str) -> float:
    """Returns the seconds for a folder of images; the first image, which compiles, counts like the others."""
    shutil.rmtree(out, ignore_errors=True)
    for index, image in enumerate(images):
        path = out / "images" / f"{index:03}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, image)
    prediction = iter(predict(select_method(model=model), out / "images", out / "results", workers=2))
    next(prediction)
    began = time.perf_counter()
    done = sum(1 for _ in prediction)
    return (time.perf_counter() - began) * (done + 1) / done
