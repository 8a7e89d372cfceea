import dataclasses
import threading
import time

import numpy as np
import pytest

from segjax.data.prefetch import prefetch
from segjax.data.preprocess import preprocess_example, preprocess_image
from segjax.data.records import Record
from segjax.data.shapes import shapes_of
from segjax.data.stream import Stream, StreamConfig
from segjax.data.subset import SubsetSource
from segjax.data.targets import TARGETS
from segjax.datasets.synthetic import SyntheticSource
from segjax.errors import InputError
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import typical_diameter
from segjax.typing import IGNORE

SOURCE = SyntheticSource("train", train_size=5, image_size=48, kinds=2)
SETTINGS = {"seed": 3, "batch_size": 4, "patch_size": 24, "margin": 1.5, "foreground_fraction": 0.5}


def make_stream(source, *, process_index=0, process_count=1, propose=None, targets=("distance",), **settings):
    return Stream(
        source,
        StreamConfig(**settings),
        process_index=process_index,
        process_count=process_count,
        propose=propose,
        targets=targets,
    )


@dataclasses.dataclass
class Listed:
    """Records from a list, and how often each was asked for."""

    records: list
    class_names: tuple = ("background", "nucleus", "bright body")

    def __post_init__(self):
        self.asked = []

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.records[index]


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def numbered(shape=(40, 30), count=1, name="flat"):
    """Images whose pixels say which image and where they are."""
    y, x = np.indices(shape)
    return [
        Record(f"{name}{index}", "g", (index * 5000 + y * 64 + x + 1)[..., None].astype(np.uint16), truth)
        for index in range(count)
        for truth in [Segmentation.from_labels((y > 20).astype(int) * 2)]
    ]


def test_shapes_and_types_of_a_batch():
    stream = make_stream(SOURCE, **SETTINGS)
    assert (stream.window_size, stream.channels) == (36, 1)
    shapes = {name: (array.shape, array.dtype) for name, array in stream.batch(0).items()}
    assert shapes == {
        "image": ((4, 36, 36, 1), np.float32),
        "labels": ((4, 36, 36), np.int32),
        "semantic": ((4, 36, 36), np.int32),
        "distance": ((4, 36, 36), np.float32),
    }


def test_a_batch_depends_on_seed_and_step_alone():
    stream = make_stream(SOURCE, **SETTINGS)
    forwards = [stream.batch(step) for step in range(5)]
    fresh = make_stream(SOURCE, **SETTINGS, cache_bytes=0)
    for step in reversed(range(5)):
        assert_same(fresh.batch(step), forwards[step])
    other = make_stream(SOURCE, **(SETTINGS | {"seed": 4}))
    assert not np.array_equal(other.batch(0)["image"], forwards[0]["image"])
    assert not np.array_equal(forwards[0]["image"], forwards[1]["image"])


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_processes_share_the_rows_of_the_same_batch(process_count):
    whole = make_stream(SOURCE, **SETTINGS).batch(7)
    parts = [
        make_stream(SOURCE, **SETTINGS, process_index=index, process_count=process_count).batch(7)
        for index in range(process_count)
    ]
    assert_same({name: np.concatenate([part[name] for part in parts]) for name in whole}, whole)


@pytest.mark.parametrize(("workers", "depth"), [(0, 1), (1, 1), (3, 4), (3, 1)])
def test_the_number_of_threads_changes_nothing(workers, depth):
    stream = make_stream(SOURCE, **SETTINGS)
    with prefetch(stream, 2, workers=workers, depth=depth) as batches:
        for expected in range(2, 9):
            step, batch = next(batches)
            assert step == expected
            assert_same(batch, make_stream(SOURCE, **SETTINGS).batch(step))
    assert not any(thread.name.startswith("batch") for thread in threading.enumerate())


class Slow:
    """A stream that counts the batches it was asked for."""

    def __init__(self):
        self.made = []

    def batch(self, step):
        time.sleep(0.01)
        self.made.append(step)
        return {}


def test_leaving_drops_what_is_not_begun():
    stream = Slow()
    with prefetch(stream, workers=1, depth=100) as batches:
        next(batches)
    assert len(stream.made) < 50


def test_each_epoch_shows_every_image_once_in_another_order():
    source = Listed(numbered(count=5))
    stream = make_stream(source, seed=0, batch_size=5, patch_size=8, cache_bytes=0)
    orders = []
    for step in range(4):
        source.asked.clear()
        stream.batch(step)
        orders.append(tuple(source.asked))
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len(set(orders)) > 1


def test_names_are_those_of_the_images_of_a_batch():
    source = Listed(numbered(count=5))
    stream = make_stream(source, seed=0, batch_size=4, patch_size=8, cache_bytes=0, process_count=2)
    for step in (0, 3):
        source.asked.clear()
        stream.batch(step)
        assert stream.names(step) == [f"flat{index}" for index in source.asked[:2]]


def test_windows_show_the_image_and_beyond_its_border_a_reflection_that_is_not_judged():
    (record,) = numbered()
    example = preprocess_example(record, num_classes=2)
    stream = make_stream(Listed([record], ("a", "b")), seed=0, batch_size=1, patch_size=20, margin=2.0)
    assert stream.window_size == 40
    padded = {
        name: np.pad(array, ((20, 20), (20, 20), (0, 0))[: array.ndim], mode="reflect")
        for name, array in example.items()
    }
    inside = np.pad(np.ones(example["labels"].shape, bool), 20)
    places = set()
    for step in range(30):
        window = {name: array[0] for name, array in stream.batch(step).items()}
        # The upper left pixel of the window is found again by the values of the patch in its middle.
        corners = np.argwhere(padded["image"][20:-20, 20:-20, 0] == window["image"][10, 10, 0])
        top, left = corners[0] + 20 - 10
        cut = np.s_[top : top + 40, left : left + 40]
        assert inside[cut][10:30, 10:30].all()  # the patch itself never leaves the image
        np.testing.assert_array_equal(window["image"], padded["image"][cut])
        for name, fill in (("labels", 0), ("semantic", IGNORE), ("distance", 0)):
            np.testing.assert_array_equal(window[name], np.where(inside[cut], padded[name][cut], fill))
        places.add((top, left))
    assert len(places) > 20


def scattered():
    """One large body of class 1 and forty small ones of class 2 in a corner of a wide image."""
    labels = np.zeros((200, 200), np.int32)
    labels[150:190, 150:190] = 1
    for index in range(40):
        labels[2 * (index // 8), 2 * (index % 8)] = index + 2
    image = np.zeros((200, 200, 1), np.uint8)
    return Record("rare", "g", image, Segmentation.from_labels(labels, classes=[1] + [2] * 40))


@pytest.mark.parametrize(("fraction", "low", "high"), [(0.0, 0.0, 0.25), (0.5, 0.4, 0.7), (1.0, 1.0, 1.0)])
def test_the_fraction_of_patches_with_an_instance(fraction, low, high):
    stream = make_stream(
        Listed([scattered()]), seed=0, batch_size=200, patch_size=9, foreground_fraction=fraction
    )
    labels = stream.batch(0)["labels"]
    assert low <= labels.any(axis=(1, 2)).mean() <= high


def test_classes_are_drawn_evenly_whatever_the_number_of_their_instances():
    settings = {"seed": 0, "batch_size": 200, "patch_size": 9, "foreground_fraction": 1.0}
    semantic = make_stream(Listed([scattered()]), **settings).batch(0)["semantic"]
    assert 0.4 <= (semantic == 1).any(axis=(1, 2)).mean() <= 0.6


def test_only_the_targets_of_the_task_are_computed(monkeypatch):
    monkeypatch.setitem(TARGETS, "distance", lambda labels: pytest.fail("computed"))
    batch = make_stream(SOURCE, **SETTINGS, targets=()).batch(0)
    assert set(batch) == {"image", "labels", "semantic"}


def test_patches_around_an_instance_are_centred_on_one_of_its_pixels():
    settings = {"seed": 0, "batch_size": 50, "patch_size": 9, "foreground_fraction": 1.0}
    batch = make_stream(Listed([scattered()]), **settings).batch(0)
    large = (batch["labels"] == 1).any(axis=(1, 2))
    assert (batch["labels"][large][:, 4, 4] == 1).all()
    assert len(np.unique(batch["labels"][large].sum(axis=(1, 2)))) > 3  # not always its centre


def test_an_image_without_instances_gives_patches_anywhere():
    empty = Record("empty", "g", np.zeros((30, 30, 1), np.uint8), Segmentation.empty((30, 30)))
    batch = make_stream(Listed([empty]), seed=0, batch_size=2, patch_size=8, foreground_fraction=1.0).batch(0)
    assert not batch["semantic"].any()


def test_images_are_prepared_once_while_they_fit():
    records = numbered(count=3)
    size = sum(array.nbytes for array in preprocess_example(records[0], num_classes=2).values())
    for fits, expected in ((3, 3), (2, 7)):
        source = Listed(records)
        stream = make_stream(source, seed=0, batch_size=1, patch_size=8, cache_bytes=fits * size)
        source.asked.clear()
        for index in (0, 1, 2, 0, 1, 2, 2, 0):
            stream._example(index)
        assert len(source.asked) == expected
        assert stream._cache.currsize <= fits * size


def test_streams_of_several_seeds_prepare_an_image_once():
    source = Listed(numbered(count=12))
    settings = {"batch_size": 12, "patch_size": 8}
    stream = make_stream(source, seed=3, **settings)
    source.asked.clear()
    for seed in (3, 4, 5):
        alone, other = make_stream(Listed(source.records), seed=seed, **settings), stream.with_seed(seed)
        assert_same(other.batch(7), alone.batch(7))
        assert other.names(7) == alone.names(7)
    assert sorted(source.asked) == [*range(12)]


def test_small_images_and_other_channels_are_named_with_the_way_out():
    small = numbered(shape=(20, 50), name="small")
    with pytest.raises(InputError) as caught:
        make_stream(Listed(small), seed=0, batch_size=1, patch_size=16, scale=0.5).batch(0)
    assert "small0 is 10 x 25 pixels at scale 0.5, smaller than patch_size=16" in str(caught.value)
    make_stream(Listed(small), seed=0, batch_size=1, patch_size=20, margin=2.0).batch(0)
    colour = dataclasses.replace(small[0], name="colour", image=np.zeros((20, 50, 3), np.uint8))
    with pytest.raises(
        InputError, match=r"has 3 channels, but the first image has 1: --config.dataset.channels=3"
    ):
        make_stream(Listed([*small, colour]), seed=0, batch_size=2, patch_size=16).batch(0)
    two = dataclasses.replace(small[0], name="two", image=np.zeros((20, 50, 2), np.uint8))
    with pytest.raises(InputError, match=r"two has 2 channels, .* all images must have the same channels"):
        make_stream(Listed([*small, two]), seed=0, batch_size=2, patch_size=16).batch(0)


class Shaped(Listed):
    """Records whose shapes are known."""

    def shapes(self):
        return [(record.name, record.image.shape) for record in self.records]


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_images_that_cannot_be_used_are_named_before_the_first_step_if_their_shapes_are_known(balance):
    settings = {"seed": 0, "batch_size": 1, "patch_size": 24, "balance": balance}
    kind = Shaped if balance == 0 else Listed  # balance looks at all images
    large, small = numbered(count=3), numbered(shape=(20, 50), name="small")
    colour = dataclasses.replace(small[0], name="colour", image=np.zeros((20, 50, 3), np.uint8))
    with pytest.raises(InputError, match="small0 is 20 x 50 pixels at scale 1, smaller than patch_size=24"):
        make_stream(kind([*large, *small]), **settings)
    with pytest.raises(InputError, match=r"small0 is 16 x 40 pixels at scale 0\.8"):
        make_stream(kind([*large, *small]), **(settings | {"scale": 0.8, "patch_size": 20}))
    with pytest.raises(InputError, match="colour has 3 channels, but the first image has 1"):
        make_stream(kind([*large, colour]), **(settings | {"patch_size": 16}))
    make_stream(kind([*large, *small]), **settings, diameter=20.0)
    # Those that are not drawn do not count.
    subset = SubsetSource(kind([*large, *small]), [2, 0])
    assert make_stream(subset, **settings).channels == 1
    assert len(shapes_of(subset)) == (2 if balance == 0 else 0)


@pytest.mark.parametrize("stain", [None, "reinhard"])
def test_images_are_normalised_as_the_settings_say(stain):
    rng = np.random.default_rng(0)
    image = (np.array([200, 120, 190]) + rng.integers(-50, 50, (40, 30, 3))).astype(np.uint8)
    record = Record("stained", "g", image, Segmentation.empty((40, 30)))
    settings = {"percentiles": (10.0, 70.0), "stain": stain, "scale": 0.5}
    stream = make_stream(Listed([record]), seed=0, batch_size=1, patch_size=8, **settings)
    expected = preprocess_image(image, **settings)
    np.testing.assert_array_equal(stream._example(0).maps["image"], expected)
    for other in ({"percentiles": (1.0, 99.8)}, {"stain": None if stain else "macenko"}):
        assert not np.array_equal(preprocess_image(image, **(settings | other)), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_goes_wrong_in_a_thread_is_raised_where_its_batch_is_asked_for(workers):
    small = numbered(shape=(20, 50), name="small")
    stream = make_stream(Listed(numbered() + small), seed=0, batch_size=1, patch_size=24)
    bad = next(step for step in range(2) if stream._order(0)[step] == 1)
    with prefetch(stream, workers=workers) as batches:
        for _ in range(bad):
            next(batches)
        with pytest.raises(InputError, match="small0 is"):
            next(batches)
    assert not any(thread.name.startswith("batch") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"batch_size": 0}, r"batch_size is 0"),
        ({"process_count": 3}, r"batch_size is 4; it must be a multiple of the 3 processes"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"foreground_fraction": 1.5}, r"foreground_fraction is 1\.5"),
        ({"margin": 0.5}, r"margin is 0\.5"),
        ({"balance": 1.5}, r"balance is 1\.5"),
        ({"balance": -0.1}, r"balance is -0\.1"),
        ({"diameter": 0.0}, r"diameter is 0\.0"),
        ({"diameter": 20.0, "scale": 0.5}, r"scale=0\.5 and diameter=20 are both given: set only one"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_arguments_out_of_range_are_named(bad, message):
    with pytest.raises(InputError, match=message):
        make_stream(SOURCE, **(SETTINGS | bad))


def test_no_images_no_threads_no_depth():
    with pytest.raises(InputError, match="no image to train on"):
        make_stream(Listed([]), **SETTINGS)
    for bad in ({"workers": -1}, {"depth": 0}):
        with (
            pytest.raises(InputError, match="workers is"),
            prefetch(make_stream(SOURCE, **SETTINGS), **bad),
        ):
            pass


def crowd(count=12):
    """One image of a grid of squares, each larger than the one before, with classes that alternate."""
    labels = np.zeros((64, 64), np.int32)
    for index in range(count):
        top, left = 16 * (index // 4), 16 * (index % 4)
        labels[top : top + 2 + index, left : left + 4] = 10 * (index + 1)
    truth = Segmentation.from_labels(labels, classes=1 + np.arange(count) % 2)
    return Listed([Record("crowd", "g", labels[..., None].astype(np.uint16), truth)])


def test_instances_of_a_window_are_numbered_and_have_their_classes(caplog):
    stream = make_stream(crowd(), seed=0, batch_size=1, patch_size=64, max_instances=16)
    with caplog.at_level("WARNING"):
        batch = stream.batch(0)
    labels, classes = batch["labels"][0], batch["classes"][0]
    assert classes.shape == (16,)
    assert np.unique(labels).tolist() == list(range(13))
    for index in range(1, 13):
        assert set(batch["semantic"][0][labels == index]) == {classes[index - 1]}
    assert not classes[12:].any()
    assert not caplog.text


def test_of_too_many_instances_the_smallest_are_left_out_and_counted(caplog):
    stream = make_stream(crowd(), seed=0, batch_size=2, patch_size=64, max_instances=5)
    with caplog.at_level("WARNING"):
        batch = stream.batch(0)
    assert caplog.text.count("crowd has 7 instances more than max_instances=5") == 1
    labels = batch["labels"][0]
    areas = np.bincount(labels.ravel())[1:]
    assert len(areas) == 5
    assert areas.min() == 4 * 9  # the eighth square; the first seven are smaller
    assert (batch["semantic"][0] == IGNORE).sum() == sum(4 * (2 + index) for index in range(7))


def test_proposals_move_with_the_window():
    boxes = np.array([[0, 0, 20, 10], [30, 30, 40, 44], [60, 0, 64, 4], [50, 12, 70, 19]], np.float32)
    labels = np.zeros((50, 70), np.int32)
    for index, (left, top, right, bottom) in enumerate(boxes.astype(int), start=1):
        labels[top:bottom, left:right] = index
    record = Record("boxes", "g", labels[..., None].astype(np.uint16), Segmentation.from_labels(labels))
    settings = {"seed": 0, "batch_size": 16, "patch_size": 32, "margin": 1.25}
    stream = make_stream(Listed([record]), **settings, max_proposals=5, propose=lambda image: boxes)
    batch = stream.batch(0)
    plain = make_stream(Listed([record]), **settings).batch(0)
    np.testing.assert_array_equal(batch["image"], plain["image"])
    seen = set()
    for window, proposals, valid in zip(
        batch["labels"], batch["proposals"], batch["proposals_valid"], strict=True
    ):
        expected = []
        for index in range(1, 5):
            rows, columns = np.nonzero(window == index)
            if 2 * len(rows) > np.count_nonzero(labels == index):
                expected.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                seen.add(index)
        np.testing.assert_array_equal(proposals[valid], np.reshape(expected, (-1, 4)))
        assert not proposals[~valid].any()
    assert seen == {1, 2, 3, 4}


def test_of_too_many_proposals_some_are_drawn_by_chance_and_the_same_again():
    boxes = np.array([[4 * i, 4 * j, 4 * i + 4, 4 * j + 4] for i in range(10) for j in range(10)], np.float32)
    settings = {"seed": 0, "batch_size": 4, "patch_size": 30, "max_proposals": 7}
    one, two = (
        make_stream(Listed(numbered()), **settings, propose=lambda image: boxes).batch(3) for _ in range(2)
    )
    np.testing.assert_array_equal(one["proposals"], two["proposals"])
    assert one["proposals_valid"].all()
    assert len(np.unique(one["proposals"].reshape(-1, 28), axis=0)) > 1


def test_a_capacity_of_nothing_is_refused():
    with pytest.raises(InputError, match="max_instances is 0"):
        make_stream(SOURCE, **SETTINGS, max_instances=0)


def colourful(count, coloured):
    """Images with a number as their value; the first are stained, the others fluorescence."""
    records = []
    for index in range(count):
        image = np.zeros((16, 16, 3), np.uint8)
        image[:] = (230, 200, 230) if index < coloured else 0
        image[4:8, 4:8] = (120, 40, 140) if index < coloured else 255
        truth = Segmentation.from_labels((image[..., 1:2].min(-1) > 999).astype(int))
        records.append(Record(f"image{index}", "g", image, truth))
    return Listed(records)


def test_without_balance_the_order_of_the_images_is_that_of_the_seed_alone():
    source = Listed(numbered(count=5))
    stream = make_stream(source, seed=3, batch_size=5, patch_size=8, cache_bytes=0)
    for epoch in range(3):
        source.asked.clear()
        stream.batch(epoch)
        philox = np.random.Philox(key=np.array([3, epoch], np.uint64), counter=[0, 0, 0, 0])
        assert source.asked == np.random.Generator(philox).permutation(5).tolist()


def test_the_default_is_no_balance_and_no_diameter():
    plain = make_stream(SOURCE, **SETTINGS)
    explicit = make_stream(SOURCE, **SETTINGS, balance=0.0, diameter=None)
    for step in range(4):
        assert_same(explicit.batch(step), plain.batch(step))


@pytest.mark.parametrize(("balance", "times"), [(0.0, 1), (0.5, 2), (1.0, 4)])
def test_images_of_a_rare_kind_come_several_times_in_an_epoch(balance, times):
    source = colourful(10, coloured=2)
    length = 8 + 2 * times
    stream = make_stream(source, seed=0, batch_size=length, patch_size=8, balance=balance)
    for epoch in range(3):
        names = sorted(stream.names(epoch))
        assert names == sorted(
            [*(f"image{index}" for index in range(10)), *["image0", "image1"] * (times - 1)]
        )


def discs(diameter, size=96):
    """A grid of discs."""
    y, x = np.mgrid[:size, :size]
    pitch = 1.5 * diameter
    row, column = (y // pitch).astype(int), (x // pitch).astype(int)
    inside = np.hypot(y - (row + 0.5) * pitch, x - (column + 0.5) * pitch) < diameter / 2
    inside &= (np.maximum(row, column) + 1) * pitch <= size  # without those that the border cuts
    labels = np.where(inside, 1 + row * 100 + column, 0)
    image = np.where(inside, 200, 20)[..., None].astype(np.uint8)
    return Record(f"discs of {diameter}", "g", image, Segmentation.from_labels(labels))


@pytest.mark.parametrize(
    ("diameter", "common", "result"),
    [(10, 20, 20), (20, 20, 20), (40, 20, 20), (40, 5, 10), (10, 60, 40)],
)
def test_images_are_scaled_to_a_common_diameter(diameter, common, result):
    record = discs(diameter)
    before = typical_diameter(record.truth.labels)
    stream = make_stream(
        Listed([record], ("a", "b")), seed=0, batch_size=1, patch_size=16, diameter=float(common)
    )
    maps = stream._example(0).maps
    side = round(96 * np.clip(common / before, 1 / 4, 4))
    assert maps["image"].shape[:2] == maps["labels"].shape == (side, side)
    assert typical_diameter(maps["labels"]) == pytest.approx(result, rel=0.06)


def test_an_image_without_instances_keeps_its_size():
    empty = Record("empty", "g", np.zeros((30, 34, 1), np.uint8), Segmentation.empty((30, 34)))
    stream = make_stream(Listed([empty]), seed=0, batch_size=1, patch_size=8, diameter=20.0)
    assert stream._example(0).maps["labels"].shape == (30, 34)


def test_an_image_that_becomes_smaller_than_a_patch_lies_in_its_middle():
    record = discs(40)
    settings = {"seed": 0, "batch_size": 1, "patch_size": 64, "margin": 1.25}
    batch = make_stream(Listed([record], ("a", "b")), **settings, diameter=10.0).batch(0)
    judged = batch["semantic"][0] != IGNORE
    rows, columns = np.flatnonzero(judged.any(1)), np.flatnonzero(judged.any(0))
    size = round(96 * 10 / typical_diameter(record.truth.labels))
    assert judged.sum() == len(rows) * len(columns) == size**2
    for side in (rows, columns):
        assert side[0] == pytest.approx((80 - size) / 2, abs=1)
    assert not batch["labels"][0][~judged].any()


def test_proposals_are_scaled_with_the_image():
    record, boxes = discs(10), np.array([[0, 0, 12, 8]], np.float32)
    settings = {"seed": 0, "batch_size": 1, "patch_size": 16, "diameter": 20.0}
    stream = make_stream(Listed([record], ("a", "b")), propose=lambda image: boxes, **settings)
    factor = 20 / typical_diameter(record.truth.labels)
    np.testing.assert_allclose(stream._example(0).proposals, factor * boxes, rtol=1e-6)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_cut_with_its_labels_and_0_beyond_the_border(name):
    batch = make_stream(SOURCE, **SETTINGS, targets=(name,)).batch(0)
    assert set(batch) == {"image", "labels", "semantic", name}
    values = batch[name]
    assert (values.shape, values.dtype) == ((4, 36, 36), np.int32 if name == "colours" else np.float32)
    np.testing.assert_array_equal(values > 0, batch["labels"] > 0)
    assert (batch["semantic"] == IGNORE).any()
    assert not values[batch["semantic"] == IGNORE].any()
