"""Small inputs of all situations: grey images, 96 x 128 pixels, with eight bright discs, and their labels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHAPE = (96, 128)
RADIUS = 9


def cells(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image [96, 128] uint8 with eight bright discs, and its label image [96, 128] uint8."""
    rng = np.random.default_rng(seed)
    image, labels = rng.integers(15, 30, SHAPE).astype(np.uint8), np.zeros(SHAPE, np.uint8)
    rows, columns = np.indices(SHAPE)
    for index in range(8):
        y, x = 24 + 48 * (index // 4) + rng.integers(-6, 7), 16 + 32 * (index % 4) + rng.integers(-5, 6)
        disc = (rows - y) ** 2 + (columns - x) ** 2 < RADIUS**2
        labels[disc] = index + 1
        image[disc] = rng.integers(150, 220)
    return image, labels


def write_cells(folder: Path, count: int = 6) -> list[Path]:
    """Writes `cell0.png`, `cell1.png`, ... into a folder, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"cell{index}.png" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(cells(index)[0]).save(path)
    return paths


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with six images of cells."""
    write_cells(tmp_path / "images")
    return tmp_path / "images"
