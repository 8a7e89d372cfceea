"""Benchmark of data preparation and of reading batches, against a plain loop and torch's DataLoader."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from tqdm import tqdm

from segjax.datasets.sources import FolderSource
from segjax.datasets.synthetic import SyntheticSource
from segjax.experiment import environment
from suites.timing import measure

PREPARE = Path(__file__).parents[1] / "prepare.py"
KINDS = 32  # distinct images; the others are shifted copies, which are faster to make


def main(*, size: int, batch: int, rounds: int, count: int, many: int) -> None:
    """Times data preparation and batch reading and prints the results.

    Args:
      size: side of the images, pixels.
      batch: number of images per batch.
      rounds: number of timed epochs; the result is their median.
      count: number of images.
      many: number of images of 128 x 128 pixels for the measurement of memory; 0 skips it.
    """
    where = environment.hardware_info()
    workers = os.cpu_count() or 1
    print(f"{where['device']}, {where['cores']} cores, jax {where['jax']}, Python {where['python']}")
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        write_files(home / "files", count, size)
        print(f"\npreparing {count} images of {size} x {size}, 16-bit PNG with 16-bit label images")
        for number in sorted({1, workers}):
            seconds, peak = prepare(home / "files", home / f"prepared_{number}", number)
            print(
                f"{number} workers: {count / seconds:.1f} images/s, {peak / 1e6:.0f} MB at most,"
                f" {seconds:.1f} s"
            )
        read(home / "files", home / "prepared_1", batch=batch, workers=workers, rounds=rounds)
        if many:
            write_files(home / "many", many, 128)
            seconds, peak = prepare(home / "many", home / "prepared_many", workers)
            verdict = "reached" if peak < 1e9 else "not reached"
            print(
                f"\n{many} images of 128 x 128: {many / seconds:.1f} images/s, {peak / 1e6:.0f} MB at most,"
                f" all processes together (goal: below 1000 MB, {verdict})"
            )


def write_files(folder: Path, count: int, size: int) -> None:
    """Writes images and masks of synthetic cells, all different."""
    source = SyntheticSource(f"train[:{KINDS}]", train_size=KINDS, image_size=size, bits=16)
    records = [source[index] for index in range(KINDS)]
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in tqdm(range(count), desc="write files", unit="image", leave=False):
        record = records[index % KINDS]
        turn, along = divmod(index // KINDS, 16)
        for kind, pixels in (
            ("images", record.image[..., 0]),
            ("masks", record.truth.labels.astype(np.uint16)),
        ):
            moved = np.roll(pixels, (turn * size // 16, along * size // 16), axis=(0, 1))
            Image.fromarray(moved).save(folder / kind / f"{index:06}.png")


def prepare(files: Path, out: Path, workers: int) -> tuple[float, int]:
    """Returns the seconds to prepare a folder and the peak memory of all its processes, bytes."""
    command = [sys.executable, str(PREPARE), f"--images={files / 'images'}", f"--masks={files / 'masks'}"]
    command += [f"--out={out}", f"--workers={workers}", "--nopreview", "--mask_format=labels"]
    command += ["--accept=near_duplicate,duplicate,near_duplicate_across_splits"]
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, held_by(watched))
            time.sleep(0.1)
        _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(said)
    return time.perf_counter() - began, peak


def held_by(process: psutil.Process) -> int:
    """Returns the resident memory of a process and its children, bytes."""
    total = 0
    for one in (process, *_children(process)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def read(files: Path, prepared: Path, *, batch: int, workers: int, rounds: int) -> None:
    """Prints images per second of an epoch of decoded batches, image and labels."""
    sources = [FolderSource(split, data_dir=prepared) for split in ("train", "validation", "test")]
    pairs = [(path, files / "masks" / path.name) for path in sorted((files / "images").iterdir())]
    count = sum(len(source) for source in sources)
    pairs = pairs[:count]
    calls: dict[str, Callable[[], Any]] = {
        "segjax": lambda: drain(decoded(sources, batch, workers)),
        "plain loop over files": lambda: drain(looped(pairs, batch)),
    }
    if importlib.util.find_spec("torch") is not None:
        from suites.torch_loader import file_loader

        loader = file_loader(pairs, read_pair, batch, workers)
        calls["torch DataLoader"] = lambda: drain(iter(loader))
    seconds = measure(calls, rounds)
    print(f"\nreading {count} decoded images and label maps in batches of {batch}, {workers} workers")
    for name, took in seconds.items():
        ratio = took / seconds["segjax"]
        print(f"{name:24} {count / took:8.1f} images/s, time relative to segjax {ratio:.2f}")


def drain(batches: Iterator[Any]) -> None:
    """Exhausts an iterator."""
    for _ in batches:
        pass


def decoded(sources: list[FolderSource], batch: int, workers: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of prepared data, decoded in threads as in training."""
    positions = [(source, index) for source in sources for index in range(len(source))]
    with ThreadPoolExecutor(workers) as threads:
        groups = [positions[start : start + batch] for start in range(0, len(positions), batch)]
        yield from threads.map(lambda group: stacked([source[index] for source, index in group]), groups)


def stacked(records: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Stacks the images and labels of records."""
    return np.stack([one.image for one in records]), np.stack([one.truth.labels for one in records])


def looped(pairs: list[tuple[Path, Path]], batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches that a plain loop reads from files."""
    for start in range(0, len(pairs), batch):
        records = [read_pair(*pair) for pair in pairs[start : start + batch]]
        yield np.stack([image for image, _ in records]), np.stack([labels for _, labels in records])


def read_pair(image: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads an image and its labels with Pillow."""
    return np.asarray(Image.open(image)), np.asarray(Image.open(mask)).astype(np.int32)
