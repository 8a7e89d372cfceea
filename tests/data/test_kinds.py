import dataclasses

import numpy as np
import pytest

from segjax.data.kinds import image_kind, repeated
from segjax.data.records import Record
from segjax.segmentation import Segmentation

GREY, PURPLE, BLUE = (1.0, 1.0, 1.0), (0.6, 0.3, 0.8), (0.2, 0.3, 1.0)


def picture(colour, *, background, dtype=np.uint8, channels=3, seed=0):
    """A quarter of the pixels are cells of a colour, the others background."""
    rng = np.random.default_rng(seed)
    image = np.full((40, 40, 3), background, float)
    image[5:25, 10:30] = np.array(colour) * (0.3 if background > 0.5 and colour == GREY else 1)
    image = np.clip(image + rng.normal(0, 0.01, (40, 40, 1)), 0, 1)[..., :channels]
    return (image * 200).astype(dtype) if dtype != np.float32 else image.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("colour", "background", "kind"),
    [
        (GREY, 0.05, "fluorescence"),
        (BLUE, 0.05, "fluorescence"),
        (GREY, 0.9, "bright_field"),
        (PURPLE, 0.95, "stained"),
    ],
)
def test_the_kind_of_an_image(colour, background, kind, dtype):
    assert image_kind(picture(colour, background=background, dtype=dtype)) == kind


@pytest.mark.parametrize(("background", "kind"), [(0.05, "fluorescence"), (0.9, "bright_field")])
def test_images_of_one_channel_are_never_stained(background, kind):
    assert image_kind(picture(GREY, background=background, channels=1)) == kind


def test_a_kind_does_not_depend_on_exposure():
    image = picture(PURPLE, background=0.95, dtype=np.float32)
    assert image_kind(0.01 * image + 7) == "stained"


@pytest.mark.parametrize("value", [0, 255])
def test_a_constant_image_has_a_kind(value):
    assert image_kind(np.full((4, 4, 3), value, np.uint8)) == "bright_field"


@dataclasses.dataclass
class Kinds:
    images: list
    class_names: tuple = ("background", "nucleus")

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        return Record(f"image{index}", "g", image, Segmentation.empty(image.shape[:2]))


def mixture(fluorescence, stained, bright):
    """Images of the three kinds, mixed."""
    images = [picture(GREY, background=0.05, seed=seed) for seed in range(fluorescence)]
    images += [picture(PURPLE, background=0.95, seed=seed) for seed in range(stained)]
    images += [picture(GREY, background=0.9, seed=seed) for seed in range(bright)]
    order = np.random.default_rng(0).permutation(len(images))
    return Kinds([images[index] for index in order])


@pytest.mark.parametrize(
    ("balance", "numbers"), [(0.0, (16, 4, 1)), (0.5, (16, 8, 4)), (1.0, (16, 16, 16)), (0.1, (16, 4, 1))]
)
def test_rare_kinds_are_repeated(balance, numbers):
    source = mixture(16, 4, 1)
    indices = repeated(source, balance)
    assert (np.diff(indices) >= 0).all()
    assert set(indices.tolist()) == set(range(21))
    kinds = [image_kind(source[int(index)].image) for index in indices]
    assert tuple(kinds.count(kind) for kind in ("fluorescence", "stained", "bright_field")) == numbers


def test_one_kind_alone_is_not_repeated():
    assert repeated(mixture(5, 0, 0), 1.0).tolist() == [0, 1, 2, 3, 4]


def test_without_balance_no_image_is_read():
    source = mixture(2, 0, 0)
    source.images = [None, None]
    assert repeated(source, 0.0).tolist() == [0, 1]
