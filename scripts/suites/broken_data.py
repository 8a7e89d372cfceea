"""The data of runs that are broken on purpose."""

import shutil
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from segjax.datasets.synthetic import SyntheticSource
from segjax.files import atomic_write

SIZE = 96


def make_images(folder: Path) -> None:
    """Writes synthetic images, their label images, and an image that cannot be read."""
    if (folder / "masks").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("images", "drawn"):
        (folder / part).mkdir(parents=True)
    source = SyntheticSource("train", train_size=24, image_size=SIZE)
    for index in range(len(source)):
        record = source[index]
        Image.fromarray(record.image[..., 0]).save(folder / "images" / f"{record.name}.png")
        Image.fromarray(record.truth.labels.astype(np.uint16)).save(folder / "drawn" / f"{record.name}.png")
    (folder / "images" / "damaged.png").write_bytes(b"damaged")
    (folder / "drawn").rename(folder / "masks")


def make_large(folder: Path, side: int) -> Path:
    """Writes a mosaic [side, side] of synthetic images; returns its file."""
    path = folder / f"large{side}.tif"
    if not path.exists():
        source, number = SyntheticSource("train", train_size=24, image_size=SIZE), -(-side // SIZE)
        squares = [source[index].image[..., 0] for index in range(len(source))]
        order = np.random.default_rng(0).integers(len(squares), size=(number, number))
        rows = [np.concatenate([squares[index] for index in row], axis=1) for row in order]
        with atomic_write(path) as tmp_path:
            image = np.concatenate(rows)[:side, :side]
            tifffile.imwrite(tmp_path, image, tile=(256, 256), compression="zlib")
    return path
