import dataclasses
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.train.optimizer import OptimizerConfig, make_optimizer
from segjax.train.sharding import (
    batch_part,
    by_process,
    check_batch,
    make_mesh,
    on_one_device,
    state_sharding,
)
from segjax.train.state import fingerprint
from tests.train import toy

KEY = jax.random.key(3)


def run(count=5, **options):
    _, state, step = toy.setup(**options)
    logs = []
    for number in range(count):
        state, log = step(state, toy.batch(number), KEY)
        logs.append(jax.device_get(log))
    return jax.device_get(state), logs


@pytest.mark.parametrize(("data", "fsdp"), [(8, 1), (1, 8), (2, 4)])
def test_eight_devices_learn_what_one_learns(data, fsdp):
    one, logs_of_one = run()
    eight, logs_of_eight = run(data=data, fsdp=fsdp)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), eight.params, one.params)
    for a, b in zip(logs_of_eight, logs_of_one, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)


def test_parameters_and_their_moments_are_split_over_fsdp():
    mesh, state, step = toy.setup(data=2, fsdp=4)
    assert mesh.shape == {"data": 2, "fsdp": 4, "space": 1}
    state, _ = step(state, toy.batch(0), KEY)
    for kernel in (state.params["out"], state.ema_params["out"], state.optimizer[2][0].mu["out"]):
        assert kernel.sharding.shard_shape(kernel.shape) == (toy.WIDTH // 4, 4)
    assert state.step.sharding.is_fully_replicated


def test_parameters_are_gathered_on_one_device():
    _, state, _ = toy.setup(data=2, fsdp=4)
    gathered = on_one_device(state.params)
    assert fingerprint(gathered) == fingerprint(state.params)
    assert {device for leaf in jax.tree.leaves(gathered) for device in leaf.devices()} == {jax.devices()[0]}


def test_microbatches_average_to_the_whole_batch():
    def still(key, example):
        return example

    class Quiet(toy.ToyTask):
        def loss(self, params, batch, key):
            return super().loss(params, batch, jax.random.key(0))

    whole, _ = run(augment=still, task=Quiet)
    parts, _ = run(augment=still, task=Quiet, accumulate=4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), parts.params, whole.params)


def test_learns_and_follows_with_the_average():
    state, logs = run(20)
    assert logs[-1]["loss"] < 0.5 * logs[0]["loss"]
    assert not np.allclose(state.ema_params["out"], state.params["out"], atol=1e-4)
    assert state.eval_params is state.ema_params
    alone, _ = run(1, keep_ema=False)
    assert alone.ema_params is None
    assert alone.eval_params is alone.params


def test_what_is_frozen_stays():
    state, _ = run(5)
    np.testing.assert_array_equal(state.params["norm"]["mean"], 1)


def test_a_step_depends_on_its_number_the_key_and_nothing_else():
    first, _ = run(3)
    again, _ = run(3)
    assert fingerprint(first) == fingerprint(again)
    _, state, step = toy.setup()
    other, _ = step(state, toy.batch(0), jax.random.key(4))
    _, state, step = toy.setup()
    same, _ = step(state, toy.batch(0), KEY)
    assert fingerprint(other.params) != fingerprint(same.params)


def test_skips_and_counts_a_gradient_that_is_not_finite():
    _, state, step = toy.setup()
    state, _ = step(state, toy.batch(0), KEY)
    before = jax.device_get(state)
    for expected in (1, 2):
        state, log = step(state, toy.batch(1) | {"target": np.full(8, np.nan)}, KEY)
        assert (log["skipped"], log["consecutive_skips"]) == (expected, expected)
    assert int(state.step) == 3
    for name in ("params", "ema_params", "optimizer"):
        assert fingerprint(getattr(state, name)) == fingerprint(getattr(before, name))
    state, log = step(state, toy.batch(2), KEY)
    assert (log["skipped"], log["consecutive_skips"]) == (2, 0)
    assert fingerprint(state.params) != fingerprint(before.params)


def test_compiles_once():
    _, state, step = toy.setup()
    for number in range(3):
        state, _ = step(state, toy.batch(number), KEY)
    assert step._cache_size() == 1


def optimizer_with(*, steps=10, frozen=None, **changes):
    """Plain gradient descent, except for the changes."""
    settings = {"name": "sgd", "learning_rate": 1.0, "warmup": 0, "end_lr_fraction": 0.0}
    settings |= {"weight_decay": 0.0, "momentum": 0.0, "clip": 0.0} | changes
    return make_optimizer(OptimizerConfig(**settings), steps=steps, frozen=frozen or {})


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_learning_rate_rises_to_its_peak_and_falls_along_a_cosine(name):
    peak, warmup, steps, end = 0.4, 5, 40, 0.1
    settings = {"name": name, "learning_rate": peak, "warmup": warmup, "end_lr_fraction": end}
    optimizer = optimizer_with(**settings, steps=steps, frozen={"kernel": False})
    params = {"kernel": jnp.zeros(3)}
    state, rates = optimizer.init(params), []
    for _ in range(steps):
        # Of equal gradients, an update is the rate; that of Adam is divided by their size.
        updates, state = optimizer.update({"kernel": jnp.ones(3)}, state, params)
        rates.append(-float(updates["kernel"][0]))
    expected = [peak * (step + 1) / (warmup + 1) for step in range(warmup)]
    for step in range(warmup, steps):
        cosine = (1 + np.cos(np.pi * (step - warmup) / (steps - warmup))) / 2
        expected.append(peak * (end + (1 - end) * cosine))
    np.testing.assert_allclose(rates, expected, rtol=1e-4)
    assert rates[warmup] == pytest.approx(peak, rel=1e-4)
    assert rates[0] == pytest.approx(peak / 6, rel=1e-4)
    assert end * peak < rates[-1] < 1.02 * end * peak


def test_the_average_follows_the_parameters_by_its_formula():
    _, state, step = toy.setup()
    average = jax.device_get(state.params)
    for number in range(120):
        state, _ = step(state, toy.batch(number % 4), KEY)
        # The decay of the toy is 0.9, which the steps before the 80th are too few for.
        decay = min(0.9, (1 + number) / (10 + number))
        average = jax.tree.map(
            lambda old, new, decay=decay: decay * old + (1 - decay) * new,
            average,
            jax.device_get(state.params),
        )
        if number in (0, 1, 119):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.ema_params, average
            )


def test_the_state_is_overwritten_without_copies():
    _, state, step = toy.setup(data=1)
    compiled = step.lower(state, toy.batch(0), KEY).compile().as_text()
    assert re.findall(r"= f32\[\d\S* copy\(", compiled) == []


def test_decays_kernels_only():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "fixed": jnp.ones((2, 2))}
    frozen = {"kernel": False, "bias": False, "fixed": True}
    for name in ("adamw", "sgd"):
        optimizer = optimizer_with(
            name=name, learning_rate=0.1, weight_decay=0.5, momentum=0.9, frozen=frozen
        )
        zero = jax.tree.map(jnp.zeros_like, params)
        updates, _ = optimizer.update(zero, optimizer.init(params), params)
        assert (updates["kernel"] < 0).all(), name
        assert not updates["bias"].any(), name
        assert not updates["fixed"].any(), name


def test_clips_by_the_norm_of_what_is_trained():
    params = {"kernel": jnp.zeros(4), "fixed": jnp.zeros(4)}
    optimizer = optimizer_with(end_lr_fraction=1.0, clip=1.0, frozen={"kernel": False, "fixed": True})
    gradient = {"kernel": jnp.full(4, 3.0), "fixed": jnp.full(4, 1e6)}
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_mesh(data=3, fsdp=3), "must divide"),
        (lambda: make_mesh(data=16, fsdp=1), "there are 8"),
        (lambda: make_mesh(data=4, fsdp=1, space=4), "there are 8"),
        (lambda: check_batch(make_mesh(data=8, fsdp=1), 12, 1, 64), "multiple of 8"),
        (lambda: check_batch(make_mesh(data=1, fsdp=1, space=8), 1, 1, 100), "patch_size=100 cannot be"),
        (
            lambda: optimizer_with(name="adam", steps=2),
            "adamw, sgd",
        ),
        (
            lambda: optimizer_with(steps=2, warmup=2),
            "warmup=2",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(InputError, match=message):
        call()


@dataclasses.dataclass(frozen=True)
class Device:
    """A device of one of several processes."""

    id: int
    process_index: int


def fake_mesh(owners, space=1):
    devices = np.array([Device(index, owner) for index, owner in enumerate(owners)]).reshape(-1, 1, space)
    return types.SimpleNamespace(devices=by_process(devices), shape={"space": space})


@pytest.mark.parametrize(("owners", "space"), [((1, 0, 0, 1), 1), ((0, 1, 0, 1), 1), ((0, 1, 1, 0), 2)])
def test_the_devices_of_a_process_hold_the_rows_that_it_makes(monkeypatch, owners, space):
    mesh = fake_mesh(owners, space)
    rows = [[device.process_index for device in group] for group in mesh.devices.reshape(-1, space)]
    for process in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        part = batch_part(mesh)
        size = len(rows) // part.count
        assert all((process in owners) == (index // size == part.index) for index, owners in enumerate(rows))


def test_devices_stay_where_jax_puts_them_if_those_of_a_process_are_neighbours():
    for owners in ((0, 0, 0), (1, 1, 0, 0), (0, 1, 2)):
        assert [device.id for device in fake_mesh(owners).devices.flat] == [*range(len(owners))]


def test_small_and_odd_arrays_are_held_whole():
    mesh = make_mesh(data=2, fsdp=4)
    specs = state_sharding(
        mesh, {"small": jnp.zeros(8), "odd": jnp.zeros((35, 35)), "split": jnp.zeros((9, 400))}
    )
    assert specs["small"].is_fully_replicated
    assert specs["odd"].is_fully_replicated
    assert specs["split"].spec == jax.P(None, "fsdp")
