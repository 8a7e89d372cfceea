import collections
import functools

import jax
import numpy as np
import pytest

from segjax.configs import nuclei, quickstart, rcnn
from segjax.data.augmentation import policy as policies
from segjax.data.augmentation.policy import OPERATIONS, make_augment
from segjax.errors import InputError
from segjax.typing import IGNORE

SOURCE, PATCH = 56, 40
pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEYS = jax.random.split(jax.random.key(0), 16)


def example(seed=0, size=SOURCE, channels=2):
    """Noise with labels: every pixel can be told from every other."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, (size, size)).astype(np.int32)
    return {
        "image": rng.uniform(0, 1, (size, size, channels)).astype(np.float32),
        "labels": labels,
        "semantic": np.where(labels > 2, 2, labels).astype(np.int32),
        "distance": np.where(labels > 0, rng.uniform(0, 1, (size, size)), 0).astype(np.float32),
    }


def cells(size=SOURCE):
    """Three bright discs with ids of their own on a dark ground."""
    rows, columns = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    for index, (row, column, radius) in enumerate([(20, 18, 8), (36, 30, 6), (24, 40, 7)], start=1):
        labels[np.hypot(rows - row, columns - column) < radius] = index
    inside = (labels > 0).astype(np.float32)
    return {
        "image": inside[..., None],
        "labels": labels,
        "semantic": inside.astype(np.int32),
        "distance": inside,
    }


def window(value, size=PATCH):
    start = (len(value) - size) // 2
    return value[start : start + size, start : start + size]


def only(*names, **strengths):
    """The augmentation that does nothing else, in this order."""
    return make_augment(patch_size=PATCH, policy=(*names, *strengths), **strengths)


def every(augment, one):
    """The variants of one example, for all keys."""
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(augment, in_axes=(0, None)))(KEYS, one))


@pytest.fixture(scope="module")
def policy():
    """The defaults, compiled once: a function of keys and one example."""
    return jax.jit(jax.vmap(make_augment(patch_size=PATCH), in_axes=(0, None)))


@pytest.mark.parametrize("size", [PATCH, SOURCE, SOURCE + 1])
def test_nothing_switched_on_is_the_centre_to_the_bit(size):
    one = example(size=size)
    off = dict.fromkeys(("rotation", "noise"), 0.0) | {"elastic": (0.0, 8.0), "gamma": (1.0, 1.0)}
    for augment in (
        make_augment(patch_size=PATCH, policy=tuple(off), **off),
        make_augment(patch_size=PATCH, policy=()),
    ):
        patch = augment(KEYS[0], one)
        assert patch.keys() == one.keys()
        for name, value in patch.items():
            np.testing.assert_array_equal(value, window(one[name]), err_msg=name)
            assert value.dtype == one[name].dtype


def test_flips_and_quarter_turns_are_numpys_to_the_bit():
    one = example()
    variants = every(only("flip", "rot90"), one)
    poses = collections.Counter()
    for index in range(len(KEYS)):
        for pose in ((flipped, turns) for flipped in (False, True) for turns in range(4)):
            flipped, turns = pose
            expected = {
                name: np.rot90(window(value)[:, ::-1] if flipped else window(value), turns)
                for name, value in one.items()
            }
            poses[pose] += all(np.array_equal(variants[name][index], expected[name]) for name in one)
    assert poses.total() == len(KEYS), "each variant is one of the eight"
    assert len(+poses) >= 6


@pytest.mark.parametrize("size", [SOURCE, SOURCE + 1])
def test_flips_alone_turn_nothing_and_turns_alone_flip_nothing(size):
    labels = example(size=size)["labels"]
    centre = window(labels)
    flips = [centre, centre[::-1], centre[:, ::-1], centre[::-1, ::-1]]
    turns = [np.rot90(centre, number) for number in range(4)]
    for switch, kinds in (("flip", flips), ("rot90", turns)):
        variants = every(only(switch), example(size=size))["labels"]
        found = [sum(np.array_equal(variant, kind) for variant in variants) for kind in kinds]
        assert sum(found) == len(KEYS)
        assert min(found) > 0


@pytest.mark.parametrize(
    "geometry",
    [{"rotation": 45.0}, {"scale": (0.7, 1.4)}, {"elastic": (2.0, 16.0)}],
    ids=lambda geometry: next(iter(geometry)),
)
def test_image_and_truth_move_together(geometry):
    one = cells()
    variants = every(only(**geometry), one)
    judged = variants["semantic"] != IGNORE
    bright = variants["image"][..., 0] > 0.5
    assert ((variants["labels"] > 0) == bright)[judged].mean() > 0.99
    assert (variants["distance"] > 0.5)[judged & bright].mean() > 0.99
    assert ((variants["labels"] > 0) == (variants["semantic"] == 1)).all()
    moved = (variants["labels"] != window(one["labels"])).any(axis=(1, 2))
    assert moved.all()


def test_scale_is_a_magnification_about_the_centre():
    rows, columns = np.mgrid[:SOURCE, :SOURCE] - (SOURCE - 1) / 2
    one = cells() | {"labels": (np.hypot(rows, columns) < 9).astype(np.int32)}
    labels = every(only(scale=(1.6, 1.6)), one)["labels"]
    np.testing.assert_allclose(labels.sum(axis=(1, 2)), np.pi * 14.4**2, rtol=0.03)
    np.testing.assert_array_equal(labels, labels[:, ::-1, ::-1])


def test_rotation_turns_by_no_more_than_it_says():
    rows, columns = np.mgrid[:SOURCE, :SOURCE] - (SOURCE - 1) / 2
    bar = ((np.abs(rows) < 3) & (columns > 0) & (columns < 16)).astype(np.int32)
    variants = np.asarray(every(only(rotation=30.0), cells() | {"labels": bar})["labels"])
    angles = []
    for labels in variants:
        down, right = np.argwhere(labels).mean(axis=0) - (PATCH - 1) / 2
        angles.append(np.rad2deg(np.arctan2(-down, right)))
    np.testing.assert_allclose(variants.sum(axis=(1, 2)), window(bar).sum(), rtol=0.1)
    assert -31 < min(angles) < -10
    assert 10 < max(angles) < 31


def test_beyond_the_source_the_image_is_reflected_and_not_judged():
    one = example(size=PATCH) | {"semantic": np.ones((PATCH, PATCH), np.int32)}
    one |= {"labels": one["semantic"], "distance": np.ones((PATCH, PATCH), np.float32)}
    one["image"] = one["image"] + 1
    variants = every(only(scale=(0.5, 0.5)), one)
    outside = variants["semantic"] == IGNORE
    assert 0.6 < outside.mean() < 0.8  # the source covers a quarter
    assert not outside[:, 12:28, 12:28].any()
    assert not variants["labels"][outside].any()
    assert not variants["distance"][outside].any()
    assert (variants["image"] >= 1).all()


def test_pixels_that_were_not_to_be_judged_stay_so():
    one = cells() | {"semantic": np.full((SOURCE, SOURCE), IGNORE, np.int32)}
    assert (every(only("flip"), one)["semantic"] == IGNORE).all()


def test_light_touches_the_image_alone():
    light = {"illumination": 0.3, "gamma": (0.7, 1.5), "blur": (0.0, 1.0), "contrast": 0.2, "noise": 0.1}
    one = cells()
    variants = every(only(**light), one)
    for name in ("labels", "semantic", "distance"):
        np.testing.assert_array_equal(variants[name], np.stack([window(one[name])] * len(KEYS)))
    differences = np.abs(variants["image"] - window(one["image"])).mean(axis=(1, 2, 3))
    assert (differences > 1e-3).all()
    assert differences.max() < 0.5


def test_a_key_decides_everything(policy):
    one = cells()
    once, again = policy(KEYS[:2], one), policy(KEYS[:2], one)
    for name, values in once.items():
        np.testing.assert_array_equal(values, again[name])
        assert (values[0] != values[1]).any()


def test_neither_jit_nor_the_rest_of_the_batch_makes_a_difference():
    augment = only("flip", contrast=0.2)
    together, alone = every(augment, example()), augment(KEYS[3], example())
    for name, values in together.items():
        np.testing.assert_allclose(values[3], alone[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_flat_image_stays_finite(policy, value):
    one = cells() | {"image": np.full((SOURCE, SOURCE, 1), value, np.float32)}
    image = np.asarray(policy(KEYS[:2], one)["image"])
    assert np.isfinite(image).all()
    assert np.abs(image).max() < 3


def test_the_default_policy_keeps_shapes_types_and_the_range_of_a_normalised_image(policy):
    variants = policy(KEYS[:2], cells())
    assert {name: (value.shape, str(value.dtype)) for name, value in variants.items()} == {
        "image": ((2, PATCH, PATCH, 1), "float32"),
        "labels": ((2, PATCH, PATCH), "int32"),
        "semantic": ((2, PATCH, PATCH), "int32"),
        "distance": ((2, PATCH, PATCH), "float32"),
    }
    low, high = np.percentile(variants["image"], [1, 99], axis=(1, 2, 3))
    assert (np.abs(low) < 0.4).all()
    assert ((high > 0.5) & (high < 1.6)).all()


def test_errors_name_the_field():
    with pytest.raises(InputError, match=r"^noise is -1"):
        make_augment(patch_size=PATCH, noise=-1.0)
    with pytest.raises(InputError, match=r"^scale is \(1\.4, 0\.7\)"):
        make_augment(patch_size=PATCH, scale=(1.4, 0.7))
    with pytest.raises(InputError, match=r"^gamma is \(0\.0, 1\.0\)"):
        make_augment(patch_size=PATCH, gamma=(0.0, 1.0))
    with pytest.raises(InputError, match=r"^elastic has the smoothness 0"):
        make_augment(patch_size=PATCH, elastic=(1.0, 0.0))
    with pytest.raises(InputError, match="an example of 32 x 32 cannot give a patch of 40 x 40"):
        make_augment(patch_size=PATCH, policy=())(KEYS[0], example(size=32))
    with pytest.raises(InputError, match=r"^rotate is unknown: choose among policy, .*rotation"):
        make_augment(patch_size=PATCH, rotate=3.0)
    with pytest.raises(InputError, match=r"^cutout is 1\.5: it must be at most 1"):
        make_augment(patch_size=PATCH, cutout=1.5)
    with pytest.raises(InputError, match=r"^policy has no operation 'blurr': .*blur, contrast"):
        make_augment(patch_size=PATCH, policy=("flip", "blurr"))
    with pytest.raises(InputError, match=r"^policy names flip twice"):
        make_augment(patch_size=PATCH, policy=("flip", "noise", "flip"))


@pytest.fixture
def warned(caplog):
    """What is warned of, from no warning on."""
    policies._warn_once.cache_clear()
    return lambda: [record.getMessage() for record in caplog.records]


def test_strengths_of_operations_outside_the_policy_are_named_once_with_the_policy_that_has_them(warned):
    for _ in range(2):
        make_augment(patch_size=PATCH, policy=("noise", "flip"), noise=0.2, cutout_count=5, stain=0.5)
    (sentence,) = warned()
    assert sentence == (
        "without effect in config.augment: stain, cutout_count, because the policy leaves out stain, cutout;"
        " to have them, give --config.augment.policy=\"('stain', 'noise', 'flip', 'cutout')\""
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"stain": 0.3, "cutout_count": 2},  # the defaults
        {"policy": ("flip",), "rotation": 0.0, "elastic": (0.0, 1.0), "cutout": 0.0, "cutout_count": 5},
        {"policy": (), "noise": 0.2},
        {"policy": ("flip",), "scale": list(policies.STRENGTHS["scale"])},
        {"policy": ("flip", "cutout"), "cutout": 0.1, "cutout_count": 5},
        quickstart.get_config().augment,
        nuclei.get_config().augment,
        *(rcnn.get_config(f"method={method},size=small").augment for method in rcnn.OPTIONS["method"]),
    ],
    ids=lambda settings: " ".join(settings)[:30],
)
def test_strengths_that_have_an_effect_or_are_off_are_not_warned_of(warned, settings):
    make_augment(patch_size=PATCH, **settings)
    assert warned() == []


def with_proposals(one):
    """The example with the box of each disc, one outside of the patch, and padding."""
    boxes = np.zeros((5, 4), np.float32)
    for index in (1, 2, 3):
        rows, columns = np.nonzero(one["labels"] == index)
        boxes[index - 1] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    boxes[3] = 0, 0, 3, 3
    return {**one, "proposals": boxes, "proposals_valid": np.arange(5) < 4}


@pytest.mark.parametrize(
    "geometry", [{}, {"flip": True, "rot90": True}, {"scale": (0.8, 1.2)}], ids=lambda g: "+".join(g)
)
def test_proposals_stay_around_what_they_were_around(geometry):
    found = every(only(**geometry), with_proposals(cells()))
    tolerance = 1.1 if "scale" in geometry else 1e-3
    compared = 0
    for labels, boxes, valid in zip(
        found["labels"], found["proposals"], found["proposals_valid"], strict=True
    ):
        assert not valid[3:].any()
        for index in (1, 2, 3):
            rows, columns = np.nonzero(labels == index)
            if valid[index - 1] and len(rows):
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                np.testing.assert_allclose(boxes[index - 1], box, atol=tolerance)
                compared += 1
    assert compared > 2 * len(KEYS)


def test_what_is_not_of_the_size_of_the_image_passes_through():
    one = {**cells(), "classes": np.array([1, 2, 1])}
    found = only("flip")(KEYS[0], one)
    np.testing.assert_array_equal(found["classes"], one["classes"])


def test_bent_proposals_are_refused():
    augment = only(elastic=(2.0, 8.0))
    with pytest.raises(InputError, match=r"elastic bends proposals"):
        augment(KEYS[0], with_proposals(cells()))


def test_what_lies_between_two_warps_is_done_between_them():
    one = example()
    variants = every(only("rot90", "brightness", "flip"), one)
    whole = every(only("rot90", "flip"), one)
    for name in ("labels", "semantic", "distance"):
        np.testing.assert_array_equal(variants[name], whole[name])
    shifts = variants["image"] - whole["image"]
    np.testing.assert_allclose(shifts, shifts[:, :1, :1].repeat(PATCH, 1).repeat(PATCH, 2), atol=1e-6)
    assert np.abs(shifts[:, 0, 0]).max() > 0.03


def test_the_order_of_a_policy_is_kept():
    rough = []
    for order in (("cutout", "noise"), ("noise", "cutout")):
        variants = every(only(*order), cells())
        gone = variants["semantic"] == IGNORE
        rough.append([image[hole].std() for image, hole in zip(variants["image"], gone, strict=True)])
    assert (np.array(rough[0]) > 1e-4).all()
    assert (np.array(rough[1]) < 1e-5).all()


def test_what_one_operation_draws_does_not_depend_on_the_others():
    one = example()
    alone = every(only("flip"), one)
    among = every(only("flip", "contrast", "cutout", rotation=0.0), one)
    kept = among["semantic"] != IGNORE
    np.testing.assert_array_equal(among["labels"][kept], alone["labels"][kept])


def test_a_name_alone_is_a_policy():
    one = example()
    for name, values in make_augment(patch_size=PATCH, policy="flip")(KEYS[0], one).items():
        np.testing.assert_array_equal(
            values, make_augment(patch_size=PATCH, policy=("flip",))(KEYS[0], one)[name]
        )


def test_all_operations_together_are_one_program_that_keeps_labels_classes_and_depths_consistent():
    traced = []
    augment = make_augment(patch_size=PATCH, policy=tuple(OPERATIONS))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def together(key, one):
        traced.append(1)
        return augment(key, one)

    one = cells()
    one["image"] = np.repeat(one["image"], 3, axis=-1) * np.float32([0.9, 0.5, 1.0])
    one |= {"classes": np.array([1, 2, 1, 0, 0], np.int32)}
    one["semantic"] = np.concatenate([[0], one["classes"]])[one["labels"]].astype(np.int32)
    copies = 0
    for seed in range(2):
        found = jax.tree.map(np.asarray, together(jax.random.split(jax.random.key(seed), len(KEYS)), one))
        for index, labels in enumerate(found["labels"]):
            classes = np.concatenate([[0], found["classes"][index]])
            judged = found["semantic"][index] != IGNORE
            np.testing.assert_array_equal(classes[labels][judged], found["semantic"][index][judged])
            assert not labels[~judged].any()
            assert not found["distance"][index][labels == 0].any()
            copies += (labels > 3).any()
        assert np.isfinite(found["image"]).all()
        assert found["image"].dtype == np.float32
    assert copies > 0
    assert len(traced) == 1


@pytest.mark.parametrize("policy", [(), ("noise",), ("rotation", "flip"), ("copy_paste", "cutout")])
def test_an_example_without_a_distance_map_is_augmented_like_one_with(policy):
    augment = make_augment(patch_size=PATCH, policy=policy)
    expected = augment(KEYS[0], cells())
    actual = augment(KEYS[0], {name: value for name, value in cells().items() if name != "distance"})
    assert set(actual) == {"image", "labels", "semantic"}
    for name in actual:
        np.testing.assert_array_equal(actual[name], expected[name])
