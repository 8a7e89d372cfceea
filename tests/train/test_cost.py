import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segjax.ops.convolution import convolve
from segjax.train.cost import Cost, KeyedStep, model_flops, peak
from tests.train import toy

IMAGE, KERNEL = jnp.ones((2, 32, 32, 64)), jnp.ones((3, 3, 64, 64))
# Two operations for each output value, kernel pixel and input channel.
CONVOLUTION = 2 * (2 * 32 * 32 * 64) * 9 * 64
A, B = jnp.ones((4, 5, 6)), jnp.ones((4, 6, 7))


def strided(x, kernel):
    return lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def both_gradients(function):
    return jax.grad(lambda *args: function(*args).sum(), argnums=(0, 1))


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (jnp.matmul, (A, B), 2 * 4 * 5 * 6 * 7),
        (jax.jit(jnp.matmul), (A, B), 2 * 4 * 5 * 6 * 7),
        (lambda a, b: lax.map(lambda pair: pair[0] @ pair[1], (a, b)), (A, B), 2 * 4 * 5 * 6 * 7),
        (lambda a: jnp.exp(a) + a, (A,), 0),
        # Winograd's algorithm counts as the direct one.
        (convolve, (IMAGE, KERNEL), CONVOLUTION),
        (strided, (IMAGE, KERNEL), CONVOLUTION / 4),
    ],
    ids=["matmul", "jit", "loop", "elementwise", "winograd", "strided"],
)
def test_counts_the_operations_of_matrix_products_and_convolutions(function, arguments, expected):
    assert model_flops(jax.make_jaxpr(function)(*arguments).jaxpr) == expected


@pytest.mark.parametrize("function", [convolve, strided])
def test_both_gradients_of_a_convolution_cost_about_what_it_costs_each(function):
    forward = model_flops(jax.make_jaxpr(function)(IMAGE, KERNEL).jaxpr)
    total = model_flops(jax.make_jaxpr(both_gradients(function))(IMAGE, KERNEL).jaxpr)
    assert total / forward == pytest.approx(3, rel=0.1)


def test_a_step_knows_its_memory_and_compiles_once():
    _, state, step = toy.setup()
    keyed = KeyedStep(step, jax.random.key(0))
    state, _ = keyed(state, toy.batch(0))
    cost = keyed.cost(state, toy.batch(0))
    assert step._cache_size() == 1
    assert cost.argument_bytes >= sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert cost.temporary_bytes > 0
    # The product with the parameters [256, 4] forward and its two gradients, at least.
    assert cost.flops >= 3 * 2 * 8 * toy.WIDTH * 4
    assert cost.peak is None
    assert cost.utilisation(2.0) is None


def test_a_program_that_never_ran_is_not_compiled_for_its_cost(monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_: pytest.fail("compiled"))
    _, state, step = toy.setup()
    cost = KeyedStep(step, jax.random.key(0)).cost(state, toy.batch(0))
    assert (cost.argument_bytes, cost.temporary_bytes) == (None, None)
    assert [*cost.as_dict()] == ["flops"]
    assert cost.flops >= 3 * 2 * 8 * toy.WIDTH * 4


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("TPU v4", 275e12),
        ("TPU v4 lite", 138e12),
        ("cpu", None),
    ],
)
def test_the_peak_is_that_of_the_whole_device(kind, expected):
    assert peak(kind) == expected
    assert peak(kind, 4) == (expected and 4 * expected)


def test_the_utilisation_is_a_fraction_of_the_peak():
    assert Cost(3e12, 0, 0, 12e12).utilisation(2.0) == pytest.approx(0.5)
    assert np.isclose(Cost(3e12, 1, 2, None).as_dict()["flops"], 3e12)
