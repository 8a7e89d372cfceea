import base64
import dataclasses
import hashlib
import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from segjax.datasets.splits import FRACTIONS, assign, digest, leaks
from segjax.errors import InputError
from tests.datasets.checks.planted import summary

TEMPLATE = summary("template", size=32)


def summary_of(name, *, group=None, split=None, counts=None, pixels=None, looks=None):
    """A summary of an image that was never drawn."""
    rng = np.random.default_rng(int(hashlib.sha256((looks or pixels or name).encode()).hexdigest()[:8], 16))
    return dataclasses.replace(
        TEMPLATE,
        name=name,
        group=group or name,
        split=split,
        areas={index: (10,) * count for index, count in (counts or {1: 5}).items() if count},
        pixel_digest=pixels or name,
        perceptual=base64.b64encode(rng.integers(-90, 90, (16, 16)).astype(np.int8).tobytes()).decode(),
    )


def many(count=200, groups=40, seed=0):
    """Images of groups of uneven sizes, of two classes of which one is rare."""
    rng = np.random.default_rng(seed)
    return [
        summary_of(
            f"i{index:03}",
            group=f"g{group}",
            counts={1: int(rng.poisson(20)), 2: int(rng.poisson(20) * (group % 3 == 0))},
        )
        for index, group in enumerate((groups * rng.beta(1, 1.5, count)).astype(int))
    ]


def splits_of_groups(summaries, split_of):
    splits_by_group = defaultdict(set)
    for each in summaries:
        splits_by_group[each.group].add(split_of[each.name])
    return splits_by_group


def fractions_of(summaries, split_of):
    """[S, 3] of images and of the instances of both classes."""
    totals = {split: np.zeros(3) for split in sorted(set(split_of.values()))}
    for each in summaries:
        totals[split_of[each.name]] += [1, each.counts.get(1, 0), each.counts.get(2, 0)]
    return {split: total / sum(totals.values()) for split, total in totals.items()}


@pytest.mark.parametrize("seed", range(4))
def test_groups_stay_whole_and_classes_are_shared(seed):
    summaries = many(seed=seed)
    split_of = assign(summaries, seed=seed)
    assert set(split_of) == {each.name for each in summaries}
    assert all(len(splits) == 1 for splits in splits_of_groups(summaries, split_of).values())
    for split, fraction in fractions_of(summaries, split_of).items():
        np.testing.assert_allclose(fraction, FRACTIONS[split], atol=0.06)


@pytest.mark.parametrize("seed", range(3))
def test_folds_are_equal(seed):
    summaries = many(seed=seed)
    split_of = assign(summaries, seed=seed, folds=5)
    assert set(split_of.values()) == {f"fold_{index}" for index in range(5)}
    assert all(len(splits) == 1 for splits in splits_of_groups(summaries, split_of).values())
    for fraction in fractions_of(summaries, split_of).values():
        np.testing.assert_allclose(fraction, 0.2, atol=0.06)


def test_the_result_depends_on_the_seed_and_not_on_the_order():
    summaries = many()
    shuffled = list(summaries)
    random.Random(0).shuffle(shuffled)
    assert assign(summaries, seed=3) == assign(shuffled, seed=3)
    assert len({digest(assign(summaries, seed=seed)) for seed in range(4)}) == 4


def test_images_that_look_alike_stay_together_whatever_their_groups():
    summaries = [summary_of(f"i{index}", looks=f"look{index // 2}") for index in range(20)]
    summaries += [summary_of(f"j{index}", pixels=f"pixels{index // 2}") for index in range(20)]
    split_of = assign(summaries)
    for letter in "ij":
        for index in range(0, 20, 2):
            assert split_of[f"{letter}{index}"] == split_of[f"{letter}{index + 1}"]
    assert not leaks([dataclasses.replace(each, split=split_of[each.name]) for each in summaries])


def test_given_splits_are_kept_and_their_groups_follow():
    summaries = many()
    user_splits = {each.name: "test" for each in summaries if each.group in ("g1", "g3")}
    marked = [dataclasses.replace(each, split=user_splits.get(each.name)) for each in summaries]
    first = next(each.name for each in summaries if each.group == "g1")
    marked = [dataclasses.replace(each, split=None) if each.name == first else each for each in marked]
    split_of = assign(marked)
    assert all(split_of[name] == "test" for name in user_splits)
    np.testing.assert_allclose(Counter(split_of.values())["train"] / len(summaries), 0.7, atol=0.06)


def test_what_the_user_tore_apart_stays_so_and_is_reported():
    summaries = [summary_of(f"i{index}", group="g") for index in range(5)]
    user_splits = ["train", "train", "test", None, None]
    marked = [
        dataclasses.replace(each, split=split) for each, split in zip(summaries, user_splits, strict=True)
    ]
    split_of = assign(marked)
    assert [split_of[each.name] for each in summaries] == ["train", "train", "test", "train", "train"]
    (leak,) = leaks([dataclasses.replace(each, split=split_of[each.name]) for each in marked])
    assert (leak.kind, leak.splits, len(leak.names)) == ("group", ("test", "train"), 5)


def test_a_test_set_of_its_own_stays_out_of_the_folds():
    summaries = many(100)
    marked = [dataclasses.replace(each, split="test" if each.group == "g0" else None) for each in summaries]
    split_of = assign(marked, folds=3)
    held_out = [each.name for each in marked if each.split]
    assert held_out
    assert [name for name in split_of if split_of[name] == "test"] == held_out
    counts = Counter(split_of.values())
    assert (
        max(counts[f"fold_{index}"] for index in range(3)) - min(counts[f"fold_{i}"] for i in range(3)) <= 8
    )


@pytest.mark.parametrize("count", [3, 4, 7])
def test_few_groups_fill_every_split(count):
    summaries = [summary_of(f"i{index}", counts={1: 1 + 100 * (index == 0)}) for index in range(count)]
    assert set(assign(summaries).values()) == set(FRACTIONS)


def test_one_group_is_split_only_if_the_user_says_so():
    summaries = [summary_of(f"i{index}", group="g") for index in range(20)]
    with pytest.raises(
        InputError, match=r"^1 group without a split cannot fill train, validation, test.*by image"
    ):
        assign(summaries)
    assert Counter(assign(summaries, by="image").values()) == {"train": 14, "validation": 3, "test": 3}
    assert set(assign(summaries, fractions={"train": 1.0, "test": 0.0}).values()) == {"train"}


def test_splits_that_are_all_given_are_complete():
    summaries = [summary_of("a", split="train"), summary_of("b", split="test")]
    assert assign(summaries) == {"a": "train", "b": "test"}
    assert assign([], fractions={"train": 1.0}) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": {"train": 0.5, "test": 0.6}}, "sum to 1"),
        ({"fractions": {"train": 1.5, "test": -0.5}}, "at least 0"),
        ({"fractions": {}}, "none"),
        ({"folds": 1}, "at least 2"),
        ({"folds": 9}, "4 groups without a split cannot fill fold_0"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        assign([summary_of(f"i{index}") for index in range(4)], **options)


def test_names_must_differ():
    with pytest.raises(InputError, match="two images are called a"):
        assign([summary_of("a"), summary_of("b"), summary_of("a")])


def test_leaks_name_what_leaks():
    summaries = [
        summary_of("a", split="train", pixels="same"),
        summary_of("b", split="test", pixels="same"),
        summary_of("c", split="train", looks="alike"),
        summary_of("d", split="validation", looks="alike"),
        summary_of("e", split="train", group="g"),
        summary_of("f", split="test", group="g"),
        summary_of("h", split="train", looks="within"),
        summary_of("i", split="train", looks="within"),
        summary_of("j", looks="within"),
    ]
    all_leaks = leaks(summaries[::-1])
    assert [(leak.kind, leak.splits, leak.names) for leak in all_leaks] == [
        ("group", ("test", "train"), ("e", "f")),
        ("duplicate", ("test", "train"), ("a", "b")),
        ("near_duplicate", ("train", "validation"), ("c", "d")),
    ]
    assert all_leaks[0].detail == "group g"
    assert leaks([]) == []


def test_digests_tell_assignments_apart():
    assert digest({"a": "train", "b": "test"}) == digest({"b": "test", "a": "train"})
    assert digest({"a": "train", "b": "test"}) != digest({"a": "test", "b": "train"})
    assert digest({"a": "train"}) == hashlib.sha256(b"a\ttrain\n").hexdigest()


def test_what_is_held_out_elsewhere_is_not_shared():
    summaries = [summary_of(f"i{index:02}", split="elsewhere" if index < 20 else None) for index in range(40)]
    split_of = assign(summaries, fractions={"train": 0.8, "test": 0.2})
    assert Counter(split_of.values()) == {"elsewhere": 20, "train": 16, "test": 4}
