import numpy as np
import pytest

from segjax.data.preprocess import percentile_normalise
from segjax.datasets.synthetic import KINDS, Kind, SyntheticSource, draw
from segjax.errors import InputError


def test_an_image_is_a_function_of_seed_split_and_index():
    first = SyntheticSource("train", image_size=64)
    again = SyntheticSource("train[5:]", image_size=64)
    assert first[5].name == again[0].name
    np.testing.assert_array_equal(first[5].image, again[0].image)
    np.testing.assert_array_equal(first[5].truth.labels, again[0].truth.labels)
    others = [
        first[4],
        SyntheticSource("test", image_size=64)[5],
        SyntheticSource("train", image_size=64, seed=1)[5],
    ]
    for other in others:
        assert not np.array_equal(first[5].truth.labels, other.truth.labels)


def test_splits_have_the_sizes_asked_for_and_share_no_name():
    sizes = {"train_size": 3, "validation_size": 2, "test_size": 1}
    sources = [SyntheticSource(split, image_size=32, **sizes) for split in ("train", "validation", "test")]
    assert [len(source) for source in sources] == [3, 2, 1]
    names = [record.name for source in sources for record in source]
    assert len(set(names)) == 6
    assert [len(SyntheticSource(split)) for split in ("train", "validation", "test")] == [64, 8, 8]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("channels", "kinds"), [(1, 2), (3, 3)])
def test_images_and_truth_fit_together(bits, channels, kinds):
    record = SyntheticSource("train", image_size=128, bits=bits, channels=channels, kinds=kinds)[0]
    assert record.image.shape == (128, 128, channels)
    assert record.image.dtype == (np.uint8 if bits == 8 else np.uint16)
    truth = record.truth
    assert set(truth.classes.tolist()) == set(range(1, kinds + 1))
    np.testing.assert_array_equal(truth.semantic > 0, truth.labels > 0)
    light = percentile_normalise(record.image)[..., 0]
    means = [light[truth.semantic == index].mean() for index in range(kinds + 1)]
    assert means[0] < 0.5 * min(means[1:])
    assert means[2] > 1.3 * means[1]  # bright bodies
    # Light comes from everywhere: no band of the image is dark.
    background = np.where(truth.labels == 0, light, np.nan)
    assert np.nanstd(np.nanmean(background, axis=1)) < 0.1


def test_bodies_of_later_classes_lie_in_front():
    flood = Kind("flood", radius=(90, 90), elongation=1, brightness=1, density=1)
    speck = Kind("speck", radius=(2, 2), elongation=1, brightness=2, density=60)
    _, truth = draw(np.random.default_rng(0), shape=(32, 32), channels=1, bits=8, kinds=(flood, speck))
    assert (truth.classes == 2).sum() > 2


def test_bodies_touch():
    truths = [SyntheticSource("train", image_size=128)[index].truth for index in range(4)]
    touching = 0
    for truth in truths:
        left, right = truth.labels[:, :-1], truth.labels[:, 1:]
        touching += ((left != right) & (left > 0) & (right > 0)).sum()
    assert touching > 20


@pytest.mark.parametrize(
    "option", [{"bits": 12}, {"channels": 0}, {"kinds": len(KINDS) + 1}, {"image_size": 4}, {"seed": -1}]
)
def test_options_out_of_range_are_named(option):
    ((name, value),) = option.items()
    with pytest.raises(InputError, match=f"option {name} of data set synthetic is {value}; it must be"):
        SyntheticSource("train", **option)
