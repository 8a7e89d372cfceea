"""A run that goes on with other devices and numbers of processes learns what it learns on one device."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.stream import Stream, StreamConfig
from segjax.datasets.synthetic import SyntheticSource
from segjax.train.checkpoint import Checkpoints
from segjax.train.optimizer import OptimizerConfig, make_optimizer
from segjax.train.resume import Provenance, resume
from segjax.train.sharding import batch_sharding, make_mesh, state_sharding
from segjax.train.state import fingerprint, make_state
from segjax.train.step import make_step

SIDE, STEPS = 16, 20
pytestmark = pytest.mark.usefixtures("quick_to_compile")
SOURCE = SyntheticSource("train", train_size=5, image_size=48)
SETTINGS = StreamConfig(seed=3, batch_size=8, patch_size=SIDE)
ONE = (1, 1, 1)
# Each part of a run: its last step, the number of processes that make the batches, and data, fsdp and space.
PARTS = {
    "1, 2, 4 and 1 processes": [(5, 1, ONE), (10, 2, (2, 1, 1)), (15, 4, (4, 1, 1)), (STEPS, 1, ONE)],
    "8, 1 and 4 devices": [(7, 1, (1, 8, 1)), (13, 1, ONE), (STEPS, 1, (4, 1, 1))],
    "data, fsdp, space and data": [
        (5, 1, (4, 1, 1)),
        (10, 2, (1, 8, 1)),
        (15, 1, (2, 1, 4)),
        (STEPS, 4, (4, 1, 1)),
    ],
}


class Network:
    """Predicts the mean of an image; the metric `seen` identifies what each example of the batch contains."""

    def loss(self, params, batch, key):
        images = batch["image"]
        hidden = jnp.tanh(jnp.einsum("bhwc,hwn->bn", images, params["kernel"]))
        error = jnp.mean((hidden @ params["out"] - images.mean((1, 2, 3))[:, None]) ** 2)
        bits = jax.lax.bitcast_convert_type(images[..., 0], jnp.uint32)
        positions = 2 * jnp.arange(SIDE**2, dtype=jnp.uint32).reshape(1, SIDE, SIDE) + 1
        return error, {"seen": (bits * positions).sum((1, 2))}


def augment(key, example):
    """Moves and mirrors the pixels without any arithmetic, so that equal examples have equal bits."""
    rows, columns, is_mirrored = jax.random.randint(key, (3,), 0, SIDE)
    image = jnp.roll(example["image"], (rows, columns), (0, 1))
    return example | {"image": jnp.where(is_mirrored % 2 == 0, image, image[:, ::-1])}


@functools.cache
def stream(index, num_processes):
    return Stream(SOURCE, SETTINGS, process_index=index, process_count=num_processes, targets=())


def batch(number, num_processes):
    parts = [stream(index, num_processes).batch(number) for index in range(num_processes)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@functools.cache  # so that each step is compiled once
def setup(axes):
    """The mesh, the first state on the host and the step."""
    data, fsdp, space = axes
    rng = np.random.default_rng(0)
    params = {
        "kernel": rng.normal(0, 0.05, (SIDE, SIDE, 32)).astype(np.float32),
        "out": np.zeros((32, 1), np.float32),
    }
    config = OptimizerConfig(name="sgd", learning_rate=0.1, warmup=2)
    optimizer = make_optimizer(config, steps=STEPS, frozen=jax.tree.map(lambda _: False, params))
    mesh = make_mesh(data=data, fsdp=fsdp, space=space, devices=jax.devices()[: math.prod(axes)])
    state = jax.device_get(make_state(params, optimizer, keep_ema=False))
    return mesh, state, make_step(Network(), optimizer, augment, mesh=mesh, state=state)


def train(folder, parts):
    """Returns the last parameters, and what was seen and the loss of each step."""
    seen, losses, saved = [], [], None
    for last, num_processes, axes in parts:
        mesh, first, step = setup(axes)
        first = jax.device_put(first, state_sharding(mesh, first))
        with Checkpoints(folder) as checkpoints:
            state, progress, *_ = resume(first, checkpoints, Provenance())
            assert saved in (None, fingerprint(state))
            for number in range(int(state.step), last):
                placed = jax.device_put(batch(number, num_processes), batch_sharding(mesh))
                state, metrics = step(state, placed, jax.random.key(3))
                seen.append(metrics["seen"].tolist())
                losses.append(float(metrics["loss"]))
            checkpoints.save(state, progress)
            saved = fingerprint(state)
    return jax.device_get(state.params), seen, losses


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return train(tmp_path_factory.mktemp("one"), [(STEPS, 1, ONE)])


@pytest.mark.parametrize("name", PARTS)
def test_a_run_on_changing_devices_sees_and_learns_what_it_does_on_one(tmp_path, one_device, name):
    expected, seen_by_one, losses_of_one = one_device
    params, seen, losses = train(tmp_path, PARTS[name])
    assert seen == seen_by_one
    assert len({value for values in seen for value in values}) == 8 * STEPS
    # The least loss is the square of differences of numbers near .5: float32 keeps five digits of it.
    np.testing.assert_allclose(losses, losses_of_one, rtol=1e-5, atol=1e-7)
    assert losses[-1] < losses[0] / 2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params, expected)
