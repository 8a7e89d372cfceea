import numpy as np
import pytest

from segjax.classical import make_method
from segjax.errors import InputError
from segjax.segmentation.split_touching import fill_holes, split_touching
from tests.classical.cells import discs, fluorescence

# scikit-image 0.26 sets the shape of an array in place, which NumPy 2.5 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")


def watershed(image, **settings):
    return make_method("watershed", **settings)(image)


PAIR = discs((40, 60), (20, 20, 10), (20, 37, 10))


def test_splits_two_touching_discs_at_their_waist():
    labels = split_touching(PAIR, smoothing=1, h=0.75)
    assert labels.dtype == np.int32
    assert labels.max() == 2
    np.testing.assert_array_equal(labels > 0, PAIR)
    left, right = labels[20, 20], labels[20, 37]
    assert left != right
    np.testing.assert_array_equal(labels[:, :28][PAIR[:, :28]], left)
    np.testing.assert_array_equal(labels[:, 30:][PAIR[:, 30:]], right)


def test_a_peak_must_rise_by_h():
    # The peaks are 10 pixels from the background; in the waist, (20, 28) is 7 from (13, 28): 3 below.
    assert split_touching(PAIR, smoothing=0, h=2.9).max() == 2
    assert split_touching(PAIR, smoothing=0, h=3.1).max() == 1


def test_the_peaks_of_a_given_distance_decide():
    ridge = np.where(PAIR, 1.0, 0.0)
    assert split_touching(PAIR, ridge, smoothing=0, h=0.1).max() == 1
    ridge[:, 29:] *= 2
    ridge[:, 35:] /= 2
    ridge[20, 50] = 5  # outside: not a peak of anything
    assert split_touching(PAIR, ridge, smoothing=0, h=0.1).max() == 1
    ridge[19:22, 19:22] = 3
    assert split_touching(PAIR, ridge, smoothing=0, h=0.1).max() == 2


def test_grows_from_seeds_and_keeps_parts_without():
    foreground = PAIR | discs(PAIR.shape, (5, 5, 3))
    seeds = np.zeros(PAIR.shape, np.int32)
    seeds[20, 20] = 4
    np.testing.assert_array_equal(
        split_touching(foreground, seeds=seeds)[PAIR], split_touching(PAIR, h=9)[PAIR]
    )
    seeds[20, 37] = 9
    seeds[39, 59] = 2  # on the background
    labels = split_touching(foreground, seeds=seeds)
    np.testing.assert_array_equal(labels > 0, foreground)
    assert labels.max() == 3
    assert len({labels[20, 20], labels[20, 37], labels[5, 5]}) == 3


def test_a_part_that_touches_at_a_corner_belongs_to_the_seed_beyond():
    foreground = np.zeros((12, 12), bool)
    foreground[1:6, 1:6] = foreground[6:11, 6:11] = True
    seeds = np.zeros((12, 12), np.int32)
    seeds[2, 2] = 1
    np.testing.assert_array_equal(split_touching(foreground, seeds=seeds), foreground)


@pytest.mark.parametrize("smoothing", [0, 1, 3])
def test_every_part_is_kept_however_flat(smoothing):
    foreground = np.zeros((20, 20), bool)
    foreground[2, 2] = foreground[5, 5:9] = True
    foreground[10, 10] = foreground[11, 11] = True  # touch at a corner: one part
    labels = split_touching(foreground, smoothing=smoothing, h=2, min_area=1)
    np.testing.assert_array_equal(labels > 0, foreground)
    assert labels.max() == 3
    assert labels[10, 10] == labels[11, 11]


def test_small_ones_go_and_ids_have_no_gaps():
    foreground = discs((40, 60), (5, 5, 1), (20, 20, 10), (30, 50, 2), (8, 50, 6))
    labels = split_touching(foreground, min_area=14)
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert not labels[5, 5]
    assert not labels[30, 50]


def test_small_holes_are_filled_and_rings_are_not():
    foreground = discs((60, 60), (30, 30, 28)) & ~discs((60, 60), (30, 30, 20))
    foreground[30, 5:8] = False
    labels = split_touching(fill_holes(foreground, 10))
    assert (labels[30, 5:8] > 0).all()
    assert not labels[30, 30]
    assert not split_touching(foreground)[30, 5:8].any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (30, 40)])
def test_nothing_and_everything(shape):
    assert not split_touching(np.zeros(shape, bool)).any()
    np.testing.assert_array_equal(split_touching(np.ones(shape, bool), min_area=1), 1)


def test_finds_dim_and_bright_cells():
    foreground = discs((60, 200), (20, 20, 9), (20, 37, 9), (40, 90, 12), (30, 150, 10), (30, 168, 10))
    stages = watershed(fluorescence(foreground))
    assert stages.num_instances == 5
    assert (stages.classes == 1).all()
    overlap = (stages.semantic == 1) & foreground
    assert overlap.sum() / ((stages.semantic == 1) | foreground).sum() > 0.9


@pytest.mark.parametrize("convert", [np.float32, lambda x: (x / 4095.0).astype(np.float64)])
def test_units_do_not_matter(convert):
    image = fluorescence(PAIR)
    np.testing.assert_array_equal(watershed(convert(image)).labels, watershed(image).labels)


def test_dark_cells_on_a_bright_ground():
    dark = 4000 - fluorescence(PAIR)
    assert watershed(dark).num_instances == watershed(dark, bright=False).num_instances == 2
    # Told otherwise, it finds the ground.
    assert watershed(dark, bright=True).labels[0, 0] == 1


def test_channels_are_averaged():
    image = fluorescence(PAIR)
    np.testing.assert_array_equal(watershed(np.repeat(image, 3, axis=-1)).labels, watershed(image).labels)


def test_bodies_below_a_share_of_the_typical_area_are_of_another_class():
    foreground = discs((60, 90), (20, 20, 12), (40, 50, 11), (15, 70, 3), (50, 80, 3), (50, 15, 3))
    image = fluorescence(foreground)
    # Three of five are small, but most of the area is not.
    stages = watershed(image, small_fraction=0.25, min_area=10)
    assert sorted(stages.classes.tolist()) == [1, 1, 2, 2, 2]
    assert stages.semantic[15, 70] == 2
    assert (watershed(image, min_area=10).classes == 1).all()
    assert watershed(image, small_fraction=0.25, small_class=7, min_area=10).classes.max() == 7


@pytest.mark.parametrize("value", [0, 7.5])
@pytest.mark.parametrize("shape", [(1, 1, 1), (32, 32, 1), (16, 1, 3)])
def test_without_contrast_nothing_is_found(shape, value):
    assert watershed(np.full(shape, value, np.float32)).num_instances == 0


def test_a_spot_too_small_for_the_percentiles_is_found():
    image = np.zeros((100, 100, 1), np.uint8)
    image[50:53, 50:53] = 200
    stages = watershed(image, min_area=1)
    assert stages.num_instances == 1
    assert stages.labels[51, 51] == 1


def test_says_what_it_cannot_use():
    with pytest.raises(InputError, match="NaN or infinite: replace them"):
        watershed(np.full((8, 8, 1), np.nan))
    for broken in (np.zeros((8, 8)), np.zeros((0, 8, 1))):
        with pytest.raises(InputError, match=r"has the shape \(.*\): give \[H, W, C\]"):
            watershed(broken)
    with pytest.raises(InputError, match="h is the height"):
        split_touching(PAIR, h=0)
    with pytest.raises(InputError, match="finite and of the foreground's shape"):
        split_touching(PAIR, np.full(PAIR.shape, np.inf))
    with pytest.raises(InputError, match="distance must be finite and of the foreground's shape"):
        split_touching(PAIR, np.zeros((3, 3)))
    with pytest.raises(InputError, match="seeds must be finite and of the foreground's shape"):
        split_touching(PAIR, seeds=np.zeros((3, 3), int))
