import functools

import jax
import numpy as np
import pytest

from segjax.data.augmentation import geometric
from segjax.data.augmentation.policy import make_augment
from segjax.data.targets import TARGETS
from segjax.ops.masks import near_two_instances
from segjax.representations.flows import flow_of

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEYS = jax.random.split(jax.random.key(0), 12)
SOURCE, SIZE = 64, 24
STRENGTHS = {
    "shear": 20.0,
    "stretch": (0.6, 1.5),
    "rotation": 40.0,
    "scale": (0.8, 1.25),
    "elastic": (1.5, 8.0),
    "flip": True,
}


@functools.cache
def places(*names):
    """[keys, SIZE, SIZE, 2]: where pixels come from, about the centre, as the image's colours say."""
    rows, columns = np.mgrid[:SOURCE, :SOURCE] - (SOURCE - 1) / 2
    maps = dict.fromkeys(("labels", "semantic"), np.ones((SOURCE, SOURCE), np.int32))
    example = {
        "image": np.stack([rows, columns], axis=-1).astype(np.float32),
        "distance": np.ones((SOURCE, SOURCE), np.float32),
        **maps,
    }
    move = functools.partial(geometric.warp, names=names, strengths=STRENGTHS, size=SIZE)
    return np.asarray(jax.jit(jax.vmap(move, in_axes=(0, None)))(KEYS, example)["image"])


def matrices(*names):
    """[keys, 2, 2], and that they are all there is to it."""
    grid = (np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2).reshape(2, -1).T
    results = []
    for place in places(*names).reshape(len(KEYS), -1, 2):
        matrix = np.linalg.lstsq(grid, place, rcond=None)[0].T
        np.testing.assert_allclose(grid @ matrix.T, place, atol=1e-3)
        results.append(matrix)
    return np.array(results)


def test_shear_slides_rows_along_each_other_either_way():
    results = matrices("shear")
    np.testing.assert_allclose(results[:, 0], np.tile([1, 0], (len(KEYS), 1)), atol=1e-4)
    np.testing.assert_allclose(results[:, 1, 1], 1, atol=1e-4)
    degrees = np.rad2deg(np.arctan(results[:, 1, 0]))
    assert -20.1 < degrees.min() < -5
    assert 5 < degrees.max() < 20.1


def products(jaxpr):
    """The products of matrices in a jaxpr."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products(inner)


@pytest.mark.parametrize("name", ["rotation", "rot90", "shear", "stain"])
def test_coordinates_and_densities_are_as_exact_on_every_device(name):
    """A TPU rounds the factors of a product to eight bits, unless it is told not to."""
    example = {
        **dict.fromkeys(("labels", "semantic"), np.ones((SOURCE, SOURCE), np.int32)),
        "image": np.ones((SOURCE, SOURCE, 3), np.float32),
        "proposals": np.array([[20, 20, 30, 40]], np.float32),
        "proposals_valid": np.ones(1, bool),
    }
    augment = make_augment(patch_size=SIZE, policy=(name, "flip"))
    equations = list(products(jax.make_jaxpr(augment)(KEYS[0], example).jaxpr))
    assert len(equations) >= 2
    highest = (jax.lax.Precision.HIGHEST,) * 2
    assert {equation.params["precision"] for equation in equations} == {highest}


def test_stretch_keeps_areas_and_axes():
    results = matrices("stretch")
    np.testing.assert_allclose(np.linalg.det(results), 1, atol=1e-4)
    np.testing.assert_allclose(results[:, 0, 1], 0, atol=1e-4)
    ratio = results[:, 1, 1] / results[:, 0, 0]  # how much larger rows become than columns
    assert 0.599 < ratio.min() < 0.9
    assert 1.1 < ratio.max() < 1.501


@pytest.mark.parametrize("order", [("shear", "rotation", "stretch"), ("stretch", "rotation", "shear")])
def test_what_comes_first_in_a_policy_happens_first(order):
    expected = functools.reduce(np.matmul, (matrices(name) for name in order))
    np.testing.assert_allclose(matrices(*order), expected, atol=1e-3)


def test_a_bend_before_a_turn_is_turned_with_it():
    bend, turn = places("elastic"), matrices("rotation")
    grid = np.stack(np.mgrid[:SIZE, :SIZE], axis=-1) - (SIZE - 1) / 2
    displacement = bend - grid
    assert np.abs(displacement).max() > 1
    turned = np.einsum("kij,hwj->khwi", turn, grid)
    np.testing.assert_allclose(places("elastic", "rotation"), turned + displacement, atol=1e-3)
    after = np.einsum("kij,khwj->khwi", turn, bend)
    np.testing.assert_allclose(places("rotation", "elastic"), after, atol=1e-3)


def test_boxes_stay_around_what_is_sheared_and_stretched():
    labels = np.zeros((SOURCE, SOURCE), np.int32)
    labels[27:36, 25:33] = 1
    example = {
        "image": labels[..., None].astype(np.float32),
        "labels": labels,
        "semantic": labels,
        "distance": labels.astype(np.float32),
        "proposals": np.array([[25, 27, 33, 36]], np.float32),
        "proposals_valid": np.array([True]),
    }
    move = functools.partial(geometric.warp, names=("shear", "stretch"), strengths=STRENGTHS, size=32)
    results = jax.jit(jax.vmap(move, in_axes=(0, None)))(KEYS, example)
    for moved, box in zip(np.asarray(results["labels"]), np.asarray(results["proposals"])[:, 0], strict=True):
        rows, columns = np.nonzero(moved)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box, tight, atol=1.1)


def squares():
    """Squares that touch, with all targets; those of a square are a constant plus what lies inside."""
    index = np.arange(64).reshape(8, 8)
    labels = np.kron(index, np.ones((8, 8), int)).astype(np.int32)
    maps = {"labels": labels, "semantic": (labels > 0).astype(np.int32)}
    targets = {name: target(labels) for name, target in TARGETS.items()}
    # Steps between instances that a mixture would show.
    targets["diffusion"] = np.where(labels > 0, targets["diffusion"] + 100 * labels, 0).astype(np.float32)
    return {"image": np.zeros((SOURCE, SOURCE, 1), np.float32), **maps, **targets}


@pytest.fixture(scope="module")
def turned():
    move = functools.partial(
        geometric.warp, names=("scale", "rotation", "elastic"), strengths=STRENGTHS, size=SOURCE
    )
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(move, in_axes=(0, None)))(KEYS, squares()))


def test_diffusion_never_mixes_instances(turned):
    inside = turned["labels"] > 0
    own = turned["diffusion"] - 100 * turned["labels"]
    highest = TARGETS["diffusion"](squares()["labels"]).max()
    assert own[inside].min() >= 1 - 1e-3
    assert own[inside].max() <= highest + 1e-3
    assert not turned["diffusion"][~inside].any()


def test_colours_move_with_the_labels(turned):
    table = np.zeros(64, np.int32)
    table[squares()["labels"]] = squares()["colours"]
    assert turned["colours"].dtype == np.int32
    np.testing.assert_array_equal(turned["colours"], table[turned["labels"]])


@pytest.mark.parametrize("name", ["distance", "poisson"])
def test_depths_are_interpolated(turned, name):
    assert len(np.unique(turned[name])) > 1000
    assert not turned[name][turned["labels"] == 0].any()


def test_flows_at_the_contact_of_two_cells_survive_a_rotation():
    y, x = np.mgrid[:SOURCE, :SOURCE]
    labels = np.zeros((SOURCE, SOURCE), np.int32)
    labels[np.hypot(y - 32, x - 20) < 14] = 1
    labels[(np.hypot(y - 32, x - 42) < 18) & (labels == 0)] = 2
    example = {
        "image": np.zeros((SOURCE, SOURCE, 1), np.float32),
        "labels": labels,
        "semantic": labels,
        "diffusion": TARGETS["diffusion"](labels),
    }
    move = functools.partial(geometric.warp, names=("rotation",), strengths=STRENGTHS)
    actual = jax.tree.map(np.asarray, jax.jit(jax.vmap(move, in_axes=(0, None)))(KEYS, example))
    for moved, values in zip(actual["labels"], actual["diffusion"], strict=True):
        # The diffusion of the rotated labels, computed again.
        expected = np.asarray(flow_of(TARGETS["diffusion"](moved), moved))
        touching = near_two_instances(moved, radius=1) & (moved > 0)
        cosine = (np.asarray(flow_of(values, moved)) * expected).sum(-1)[touching]
        assert len(cosine) > 20
        assert np.mean(cosine > 0.7) > 0.9
