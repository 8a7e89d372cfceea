"""Maps that tell something about the instance of each pixel."""

import numpy as np
import pytest

from segjax.data import targets
from segjax.data.targets import RESAMPLING, TARGETS, instance_diffusion, instance_poisson
from tests.oracles import targets as oracle


def blocks(seed):
    """Instances that touch, in pieces, on the border, with holes; the ids have gaps."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 4, (3, 4)), np.ones((4, 4), int)) * (1 + seed)
    labels[rng.random(labels.shape) < 0.1] = 0
    return labels.astype(np.int32)


def ring():
    y, x = np.mgrid[:21, :21]
    radius = np.hypot(y - 10, x - 10)
    return ((radius < 9) & (radius > 5)).astype(np.int32)


def grid_of(count, side=5, gap=1):
    """`count` squares, row by row."""
    columns = int(np.ceil(np.sqrt(count)))
    labels = np.zeros((columns * (side + gap), columns * (side + gap)), np.int32)
    for index in range(count):
        row, column = divmod(index, columns)
        labels[row * (side + gap) :, column * (side + gap) :][:side, :side] = index + 1
    return labels


def painted(shape, *regions):
    labels = np.zeros(shape, np.int32)
    for index, region in enumerate(regions, start=1):
        labels[region] = index
    return labels


# Labels that real annotations have; `tests/representations` decodes them, too.
ODD = {
    "no instance": np.zeros((9, 9), np.int32),
    "one pixel": painted((9, 9), np.s_[4, 4]),
    "one pixel in a corner": painted((9, 9), np.s_[0, 8]),
    "two pieces": painted((12, 30), np.s_[2:10, 2:10]) + painted((12, 30), np.s_[2:10, 20:28]),
    "a pixel at a corner": painted((12, 12), np.s_[2:8, 2:8]) + painted((12, 12), np.s_[8, 8]),
    "ring": ring(),
    "ring around another": ring() + 2 * painted((21, 21), np.s_[8:13, 8:13]),
    "all of the image": np.ones((24, 31), np.int32),
    "one row": np.ones((1, 12), np.int32),
    "one column": np.ones((12, 1), np.int32),
    "a single pixel": np.ones((1, 1), np.int32),
    "a line": painted((5, 400), np.s_[2, :]),
    "an oblique line": np.eye(40, dtype=np.int32),
    "lines that touch": np.repeat(np.arange(1, 11, dtype=np.int32), 40).reshape(10, 40),
    "large ids": 70_000 * painted((9, 9), np.s_[2:7, 2:7]),
    "3000 instances": grid_of(3000),
}


@pytest.mark.parametrize("name", ["poisson", "diffusion"])
@pytest.mark.parametrize("seed", range(4))
def test_a_target_agrees_with_a_dense_matrix(name, seed):
    labels = blocks(seed)
    expected = getattr(oracle, f"instance_{name}")(labels)
    np.testing.assert_allclose(TARGETS[name](labels), expected, rtol=1e-5, atol=1e-6)


def test_poisson_by_hand():
    # Three pixels in a row: 4a - b = 1 and 4b - 2a = 1, so a = 5/14 and b = 6/14.
    labels = painted((3, 5), np.s_[1, 1:4])
    np.testing.assert_allclose(instance_poisson(labels)[1], [0, 5 / 6, 1, 5 / 6, 0], rtol=1e-6)


def test_diffusion_by_hand():
    # Three pixels in a row, heated in the middle: 4a = b, and the logarithm of the coldest is 1.
    labels = painted((3, 5), np.s_[1, 1:4])
    np.testing.assert_allclose(instance_diffusion(labels)[1], [0, 1, 1 + np.log(4), 1, 0], rtol=1e-6)


def test_heat_never_vanishes_along_a_line():
    values = instance_diffusion(ODD["a line"])[2]
    # By the same factor, 2 + sqrt(3), from pixel to pixel, away from both ends.
    np.testing.assert_allclose(np.diff(values[20:190]), np.log(2 + np.sqrt(3)), rtol=1e-3)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("case", ODD)
def test_targets_of_odd_labels_are_finite_and_nothing_outside(name, case):
    labels = ODD[case]
    values = TARGETS[name](labels)
    assert values.shape == labels.shape
    assert values.dtype == (np.int32 if name == "colours" else np.float32)
    assert np.isfinite(values).all()
    assert (values[labels > 0] > 0).all()
    assert not values[labels == 0].any()


@pytest.mark.parametrize("name", ["distance", "poisson"])
@pytest.mark.parametrize("case", sorted(ODD.keys() - {"no instance"}))
def test_the_highest_value_of_every_instance_is_one(name, case):
    labels = ODD[case]
    values = TARGETS[name](labels)
    for index in np.unique(labels[labels > 0])[:50]:
        assert values[labels == index].max() == pytest.approx(1)


@pytest.mark.parametrize("name", TARGETS)
def test_targets_do_not_depend_on_the_ids(name):
    labels = blocks(1)
    np.testing.assert_allclose(
        TARGETS[name](np.array([0, 5, 9, 7])[labels // 2]), TARGETS[name](labels), rtol=1e-6
    )


def test_every_target_says_how_it_is_resampled():
    assert RESAMPLING.keys() == TARGETS.keys()


# The diffusion starts at a pixel, which is the centre up to half a coarse pixel.
@pytest.mark.parametrize(("name", "accuracy"), [("poisson", 0.05), ("diffusion", 0.2)])
def test_a_coarser_grid_shifts_nothing(name, accuracy, monkeypatch):
    y, x = np.mgrid[:60, :74]
    labels = (((y - 29.5) / 24) ** 2 + ((x - 36.5) / 30) ** 2 <= 1).astype(np.int32)
    monkeypatch.setattr(targets, "LARGEST", 600)
    values = TARGETS[name](labels).astype(np.float64)
    centre = [(values * axis).sum() / values.sum() for axis in (y, x)]
    np.testing.assert_allclose(centre, (29.5, 36.5), atol=accuracy)


@pytest.mark.parametrize("name", ["poisson", "diffusion"])
def test_a_large_instance_is_solved_on_a_coarser_grid(name, monkeypatch):
    y, x = np.mgrid[:100, :120]
    labels = np.zeros((100, 120), np.int32)
    labels[np.hypot(y - 48, x - 45) < 40] = 3
    labels[10:20, 100:112], labels[95, 2] = 1, 2
    exact = TARGETS[name](labels)
    monkeypatch.setattr(targets, "LARGEST", 600)
    coarse = TARGETS[name](labels)
    assert coarse.dtype == np.float32
    np.testing.assert_array_equal(coarse[labels != 3], exact[labels != 3])
    inside = labels == 3
    assert np.corrcoef(coarse[inside], exact[inside])[0, 1] > 0.98
    assert coarse[inside].min() > 0
    # Both lead to the same centre.
    one, other = (np.argwhere(inside & (values == values[inside].max()))[0] for values in (coarse, exact))
    assert np.abs(one - other).max() <= 4


def test_the_solution_of_a_large_line_is_finite(monkeypatch):
    monkeypatch.setattr(targets, "LARGEST", 10)
    for name in ("poisson", "diffusion"):
        values = TARGETS[name](ODD["an oblique line"])
        assert np.isfinite(values).all()
        assert (values[ODD["an oblique line"] > 0] > 0).all()


@pytest.mark.parametrize("name", ["poisson", "diffusion"])
def test_instances_are_solved_in_groups_with_the_bits_of_all_at_once(name, monkeypatch):
    labels = grid_of(60)[:, ::-1]
    ids = np.random.default_rng(0).permutation(60) + 1
    labels = np.concatenate([[0], ids])[labels].astype(np.int32)
    labels[0, 0] = 70
    solve, sizes = targets.spsolve, []

    def spsolve(matrix, *arguments, **options):
        sizes.append(matrix.shape[0])
        return solve(matrix, *arguments, **options)

    monkeypatch.setattr(targets, "spsolve", spsolve)
    expected = TARGETS[name](labels)
    monkeypatch.setattr(targets, "GROUP", 100)
    np.testing.assert_array_equal(TARGETS[name](labels), expected)
    assert sizes[0] == sum(sizes[1:]) == np.count_nonzero(labels)
    # Each group ends with the instance that reaches the limit.
    assert max(sizes[1:]) < 100 + 25


@pytest.mark.parametrize("name", ["poisson", "diffusion"])
def test_a_large_instance_costs_its_own_part_of_the_image(name, monkeypatch):
    resize, sizes = targets.resize, []
    monkeypatch.setattr(
        targets, "resize", lambda coarse, *a, **o: sizes.append(coarse.size) or resize(coarse, *a, **o)
    )
    monkeypatch.setattr(targets, "LARGEST", 600)
    disc = (np.hypot(*(np.mgrid[:62, :64] - 31.5)) < 28).astype(np.int32)
    alone = TARGETS[name](disc)
    labels = np.zeros((501, 403), np.int32)
    # At multiples of the side of a block, 3; the last one is cut off by the border.
    for index, (top, left) in enumerate([(0, 0), (150, 99), (300, 201), (438, 339)], start=1):
        labels[top : top + 62, left : left + 64] += index * disc[: 501 - top, : 403 - left]
    values = TARGETS[name](labels)
    np.testing.assert_allclose(values[150:212, 99:163], alone, rtol=1e-6)
    np.testing.assert_allclose(values[300:362, 201:265], alone, rtol=1e-6)
    # 62 x 64 pixels in blocks of 3, with one block around them.
    assert max(sizes[1:]) <= 23 * 24
