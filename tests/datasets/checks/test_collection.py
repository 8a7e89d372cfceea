import dataclasses
import json
import random

import numpy as np
import pytest
from scipy import ndimage

from segjax.datasets.checks.collection import check_pairs, check_set
from segjax.datasets.checks.findings import KINDS
from segjax.datasets.checks.summary import Summary
from segjax.segmentation import Segmentation
from tests.datasets.checks.planted import healthy, kinds, squares, summary


def healthy_set(count=12, **options):
    return [summary(f"image{seed:02}", seed, **options) for seed in range(count)]


def set_kinds(summaries):
    """The kinds that each image has."""
    shuffled = list(summaries)
    random.Random(0).shuffle(shuffled)
    found = check_set(summaries)
    assert check_set(shuffled) == found
    assert {finding.kind for findings in found.values() for finding in findings} <= set(KINDS)
    return {name: kinds(findings) for name, findings in found.items()}


def test_summaries_survive_json():
    one_summary = summary("a", group="g", split="train", channels=2)
    text = json.dumps(one_summary.to_json(), allow_nan=False)
    assert Summary.from_json(json.loads(text)) == one_summary
    assert len(text) < 4000


def test_a_summary_counts_and_measures():
    labels = squares()
    labels[0, 0] = 17
    one_summary = summary("a", size=64, labels=labels)
    assert one_summary.counts == {1: 17}
    assert one_summary.areas[1] == (1, *[64] * 16)
    assert one_summary.smallest == {1: 64}
    assert (one_summary.shape, one_summary.channels, one_summary.dtype) == ((64, 64), 1, "uint16")
    image = healthy(size=64)[0]
    assert (one_summary.quantiles[0], one_summary.quantiles[-1]) == (image.min(), image.max())
    assert one_summary.quantiles[5] == pytest.approx(np.median(image), abs=1)


def test_healthy_sets_have_no_findings():
    assert set_kinds(healthy_set(30)) == {}
    assert set_kinds([]) == {}
    assert set_kinds(healthy_set(1)) == {}
    assert set_kinds(healthy_set(12, channels=3, bits=8, size=64)) == {}


def test_of_exact_copies_the_first_is_kept():
    copies = [summary("copy", 3), summary("image03b", 3, labels=squares(128))]
    found = set_kinds([*healthy_set(), *copies])
    assert found == {"image03": ["duplicate"], "image03b": ["duplicate"]}
    details = check_set([*healthy_set(), *copies])
    assert details["image03"][0].detail == "same pixels as copy"
    assert details["image03b"][0].detail == "same pixels as copy, annotated differently"


def test_of_copies_in_two_splits_the_test_image_is_kept():
    images = [summary(f"image{seed}", seed, split="train") for seed in range(5)]
    held_out = [summary("z", 2, split="test"), summary("y", 2, split="validation")]
    assert set_kinds([*images, *held_out]) == {
        "image2": ["duplicate_across_splits"],
        "y": ["duplicate_across_splits"],
    }


def test_near_duplicates_are_noted_and_across_splits_left_out():
    image, truth = healthy(4)
    twin = np.rot90(image // 2 + 300)
    truth = Segmentation.from_labels(np.rot90(truth.labels), classes=truth.classes)
    found = set_kinds([*healthy_set(), summary("twin", image=twin, truth=truth)])
    assert found == {"image04": ["near_duplicate"], "twin": ["near_duplicate"]}
    split = [dataclasses.replace(each, split="train") for each in healthy_set()]
    found = set_kinds([*split, summary("twin", image=twin, truth=truth, split="test")])
    assert found == {"image04": ["near_duplicate_across_splits"], "twin": ["near_duplicate"]}


def test_images_without_cells_are_never_near_duplicates():
    light = np.linspace(100, 200, 128)[:, None, None] * np.ones((128, 128, 1))
    empty = [
        summary(
            f"empty{index}",
            image=(light + np.random.default_rng(index).normal(0, 3, light.shape)).astype(np.uint8),
            labels=np.zeros((128, 128), int),
        )
        for index in range(3)
    ]
    assert set_kinds(empty) == {}


def test_one_mask_of_two_images_is_noted():
    labels = squares(128)
    images = [*healthy_set(4), summary("a", 10, labels=labels), summary("b", 11, labels=labels * 3)]
    assert set_kinds(images) == {"a": ["shared_mask"], "b": ["shared_mask"]}


def test_groups_in_two_splits_are_noted():
    images = [summary(f"image{seed}", seed, group=f"g{seed // 2}", split="train") for seed in range(4)]
    images[0] = dataclasses.replace(images[0], split="test")
    assert set_kinds(images) == {"image0": ["group_in_several_splits"], "image1": ["group_in_several_splits"]}


def test_other_channels_and_types_are_found():
    images = healthy_set()
    colour = summary("colour", 20, channels=3)
    assert set_kinds([*images, colour]) == {"colour": ["unusual_channels"]}
    assert set_kinds([*images, summary("shallow", 20, bits=8)]) == {"shallow": ["unusual_dtype"]}
    mixed = [summary(f"shallow{seed}", 20 + seed, bits=8) for seed in range(6)]
    assert set_kinds([*images, *mixed]) == {}, "a mixed set has no odd image"


def test_of_two_copies_the_one_of_the_usual_channels_stays():
    images = healthy_set()
    grey, colour = summary("a", 20, channels=3), summary("b", 20)
    grey = dataclasses.replace(grey, pixel_digest=colour.pixel_digest)
    kinds = set_kinds([*images, grey, colour])
    assert sorted(kinds["a"]) == ["duplicate", "unusual_channels"]
    assert "b" not in kinds


def test_odd_sizes_are_noted():
    images = healthy_set(20)
    assert set_kinds([*images, summary("a", 30, size=112)]) == {"a": ["unusual_size"]}
    mixed = [summary(f"b{seed}", 20 + seed, size=160) for seed in range(12)]
    assert set_kinds([*images, *mixed]) == {}
    assert set_kinds([*images, *mixed, summary("c", 40, size=28)]) == {"c": ["unusual_size"]}


def test_images_out_of_focus_beside_others_are_noted():
    image, truth = healthy(20)
    blurred = ndimage.gaussian_filter(image, (3, 3, 0))
    found = set_kinds([*healthy_set(), summary("soft", image=blurred, truth=truth)])
    assert found == {"soft": ["blurred"]}


def test_cells_far_from_the_usual_size_are_noted():
    images = [
        summary(f"image{seed}", seed, labels=np.roll(squares(128), 2 * seed, axis=0)) for seed in range(8)
    ]
    huge, small = squares(128), squares(128)
    huge[16:80, 16:80] = 1
    small[60:62, 60:62] = 20
    found = set_kinds([*images, summary("huge", 20, labels=huge), summary("tiny", 21, labels=small)])
    assert found == {"huge": ["large_instances"], "tiny": ["small_instances"]}


def test_images_and_masks_without_partners():
    found = check_pairs(["a/1", "a/2", "b/nucleus_1"], ["a/1", "b/nucleus_01"])
    assert {key: kinds(findings) for key, findings in found.items()} == {
        "a/2": ["missing_mask"],
        "b/nucleus_1": ["missing_mask"],
        "b/nucleus_01": ["missing_image"],
    }
    assert found["b/nucleus_1"][0].detail == "no mask is called b/nucleus_1; did you mean b/nucleus_01?"
    assert found["a/2"][0].detail == "no mask is called a/2"
    assert check_pairs(["a"], ["a"]) == {}
