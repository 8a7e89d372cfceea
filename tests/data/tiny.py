"""A wheel in the layout of MNFinder's, of three small images, and the builder that knows its contents."""

import hashlib
import io
import os
import signal
import zipfile
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
import tifffile
from PIL import Image

from segjax.data.records import Record
from segjax.datasets.packages import Wheel
from segjax.datasets.public.mnfinder import Mnfinder
from segjax.datasets.store.builder import CellBuilder
from segjax.segmentation import Segmentation

FILENAME = "tinyfinder-1.0.0-py3-none-any.whl"
IMAGES = (
    ("training-data", "2022_A", "1"),
    ("validation-data", "2022_A", "1"),
    ("test-data", "2023-05-31_misc", "1"),  # the leak
    ("test-data", "2023-05-31_misc", "a - b.c"),
)
RED, GREEN = (255, 0, 0, 255), (0, 255, 0, 255)


def masks():
    """Two nuclei, the second in two pieces; two micronuclei of the first, one of them on its rim."""
    nuclei, micronuclei = np.zeros((2, 12, 10, 4), np.uint8)
    nuclei[1:5, 1:5] = RED
    nuclei[7:9, 1:3] = nuclei[7:9, 5:7] = GREEN
    micronuclei[4, 4] = micronuclei[5, 5] = RED  # one: they touch at a corner
    micronuclei[0, 9] = RED
    return nuclei, micronuclei


def picture(index):
    return (np.arange(120).reshape(12, 10) * 500 + index).astype(np.uint16)


def write_wheel(folder: Path, **extra: bytes) -> Wheel:
    """Writes the wheel; `extra` members go in by their names."""
    folder.mkdir(parents=True, exist_ok=True)
    nuclei, micronuclei = masks()
    members: dict[str, bytes | str] = {}
    for index, (split, acquisition, name) in enumerate(IMAGES):
        home = f"mnfinder/{split}/{acquisition}"
        members[f"{home}/images/{name}.tif"] = as_bytes(picture(index))
        members[f"{home}/images/{name}.png"] = b"a preview that nobody reads"
        for kind, mask in (("nucleus_masks", nuclei), ("mn_masks", micronuclei)):
            file = io.BytesIO()
            Image.fromarray(mask).save(file, "PNG")
            members[f"{home}/{kind}/{name}.png"] = file.getvalue()
    about = "tinyfinder-1.0.0.dist-info"
    members[f"{about}/METADATA"] = "Metadata-Version: 2.1\nName: tinyfinder\nVersion: 1.0.0\n"
    members[f"{about}/WHEEL"] = "Wheel-Version: 1.0\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / FILENAME, "w") as archive:
        for name, content in (members | extra).items():
            archive.writestr(zipfile.ZipInfo(name), content)  # without the time, so that the sum is the same
    content = (folder / FILENAME).read_bytes()
    return Wheel("tinyfinder", "1.0.0", FILENAME, hashlib.sha256(content).hexdigest())


def as_bytes(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


class TinyFinder(Mnfinder):
    """Reads the wheel above; a test sets ARCHIVE."""


class Fragile(CellBuilder):
    """Is killed in the middle of its preparation where the environment says so."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "cell")
    DESCRIPTION = HOMEPAGE = CITATION = LICENSE = "none"

    def records(self, downloads):
        return {"train": self._train}

    def _train(self):
        for index in range(5):
            if index == 3 and "KILL" in os.environ:
                os.kill(os.getpid(), signal.SIGKILL)
            image = np.full((4, 4, 1), index, np.uint8)
            yield Record(f"cell{index}", f"g{index}", image, Segmentation.empty((4, 4)))
