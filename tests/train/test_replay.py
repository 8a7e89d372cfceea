"""A replay names the operation and the images that make a gradient not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.train.cost import KeyedStep
from segjax.train.replay import broken_rows, first_not_finite
from segjax.train.state import fingerprint
from tests.train import toy


def log_of_negative(x):
    return jnp.log(x - 1).sum()


def root_at_zero(x):
    return jnp.sqrt(0 * x).sum()


def overflow(x):
    return (jnp.exp(1000 * x) - jnp.exp(2000 * x)).sum()


def divided_in_a_loop(x):
    return jax.lax.scan(lambda total, value: (total + (value - 0.5) / (value - 0.5), None), 0.0, x)[0]


def custom_rule(x):
    return jax.nn.relu(jnp.arccos(x)).sum()


# Function, whether its gradient is taken, and the operation of the first NaN and of the first infinite value.
CASES = {
    "log": (log_of_negative, False, {"NaN": "log"}),
    "log and gradient": (log_of_negative, True, {"NaN": "log"}),
    "gradient only": (root_at_zero, True, {"infinite": "div", "NaN": "mul"}),
    "overflow": (overflow, False, {"infinite": "exp", "NaN": "sub"}),
    "a loop": (divided_in_a_loop, False, {"NaN": "scan"}),
    "a function with its own gradient": (custom_rule, True, {"NaN": "acos"}),
    "finite": (jnp.sum, True, {}),
}


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "jit"])
@pytest.mark.parametrize(("function", "differentiate", "expected"), CASES.values(), ids=CASES)
def test_the_first_operation_is_named(function, differentiate, expected, jit):
    function = jax.grad(function) if differentiate else function
    first = first_not_finite(jax.jit(function) if jit else function, jnp.array([2.0, 0.5, 3.0]))
    assert {kind: operation.name for kind, operation in first.items()} == expected
    for operation in first.values():
        assert operation.name in str(operation)


def test_the_images_whose_gradient_alone_is_not_finite_are_found():
    _, state, jitted = toy.setup()
    batch = toy.batch(0)
    batch["target"][[2, 5]] = np.nan, np.inf
    before = fingerprint(state)
    step = KeyedStep(jitted, jax.random.key(0))
    assert broken_rows(step, state, batch) == [2, 5]
    assert broken_rows(step, state, toy.batch(1)) == []
    assert fingerprint(state) == before


def test_a_step_names_the_operation_of_its_loss():
    class LogTask(toy.ToyTask):
        def loss(self, params, batch, key):
            total, terms = super().loss(params, batch, key)
            return total + jnp.log(batch["target"].min()), terms

    _, state, jitted = toy.setup(task=LogTask)
    batch = toy.batch(0)
    assert batch["target"].min() < 0
    first = first_not_finite(jitted, state, batch, jax.random.key(0))
    assert first["NaN"].name == "log"
    assert first["NaN"].inputs == ((batch["target"].min(), batch["target"].min()),)
