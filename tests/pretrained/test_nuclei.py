"""The network in the package: its file, its card, and that it segments images of every kind."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import ndimage

import segjax
from segjax.models.weights.network import FOLDER, load_network

FILE, CARD = FOLDER / "nuclei.safetensors", FOLDER / "nuclei.md"


def image_of_nuclei(diameter=24, *, shape=(160, 200)):
    """Twelve bright discs with soft edges on a dim background, [H, W] float in 0..1, and their labels."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for index in range(12):
        row, column = 30 + 50 * (index // 4), 25 + 50 * (index % 4)
        labels[(y - row) ** 2 + (x - column) ** 2 < (diameter / 2) ** 2] = index + 1
    noise = np.random.default_rng(0).normal(0, 0.02, shape)
    return np.clip(0.1 + 0.6 * ndimage.gaussian_filter((labels > 0).astype(float), 1) + noise, 0, 1), labels


GREY, LABELS = image_of_nuclei()
IMAGES = {
    "8 bits": np.round(255 * GREY).astype(np.uint8),
    "16 bits": np.round(60_000 * GREY).astype(np.uint16),
    "float": GREY.astype(np.float32),
    "colour": np.round(255 * GREY[..., None] * [0.2, 0.4, 1.0]).astype(np.uint8),
    "dark on bright": np.round(255 * (1 - GREY)).astype(np.uint8),
}


@pytest.fixture(scope="module")
def nuclei():
    return segjax.load("nuclei")


@pytest.mark.parametrize("kind", IMAGES)
def test_segments_images_of_every_kind(nuclei, kind):
    segmentation = nuclei(IMAGES[kind])
    assert segmentation.shape == LABELS.shape
    scores = segjax.evaluate(LABELS, segmentation)
    assert scores.ap[0.5] >= 0.75
    assert scores.iou["class 1"] >= 0.75


def test_an_image_without_nuclei_has_none(nuclei):
    assert nuclei(np.zeros((64, 80), np.uint8)).num_instances == 0


def test_the_card_describes_the_file():
    params, header = load_network(FILE)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    card = CARD.read_text()
    assert FILE.stat().st_size <= 8e6
    assert count <= 8e6
    assert f"{count:,} parameters" in card
    assert header["digest"] in card
    assert f"step {header['step']:,}" in card
    assert header["metadata"]["class_names"] == ["background", "nucleus"]


def test_the_file_names_no_folder_of_the_machine_that_made_it():
    _, header = load_network(FILE)
    texts = re.findall(r"'(/[^']*)'", str(header))
    assert texts == []
    assert Path(FILE).parent.name == "pretrained"
