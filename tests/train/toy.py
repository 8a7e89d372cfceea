"""A task without a network, so that what is tested is the training around it."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from segjax.data.records import Record
from segjax.experiment.validation import Validation
from segjax.segmentation import Segmentation
from segjax.train.optimizer import OptimizerConfig, make_optimizer
from segjax.train.sharding import make_mesh, state_sharding
from segjax.train.state import make_state
from segjax.train.step import StepConfig, make_step

WIDTH = 256


class ToyTask:
    """Regresses the mean of an image; one parameter is frozen."""

    targets: frozenset[str] = frozenset()

    def init(self, key, batch):
        channels = batch["image"].shape[-1]
        kernel = 0.1 * jax.random.normal(key, (channels, WIDTH))
        return {"kernel": kernel, "out": jnp.zeros((WIDTH, 4)), "norm": {"mean": jnp.ones(WIDTH)}}

    def loss(self, params, batch, key):
        hidden = (
            jnp.tanh(jnp.einsum("bhwc,cn->bn", batch["image"], params["kernel"]))
            * params["norm"]["mean"][None]
        )
        hidden *= 1 + 0.1 * jax.random.normal(key, (WIDTH,))[None]  # the key must matter
        error = jnp.mean((hidden @ params["out"] - batch["target"][:, None]) ** 2)
        return error, {"error": error}

    def predict(self, params, images):
        return {}

    def segment(self, outputs):
        return Segmentation.empty((1, 1))


def frozen(params):
    return jax.tree.map(lambda _: False, params) | {"norm": {"mean": True}}


def batch(step, size=8):
    rng = np.random.Generator(np.random.Philox(key=[7, step]))
    image = rng.normal(size=(size, 4, 4, 3)).astype(np.float32)
    return {"image": image, "target": image.mean((1, 2, 3)) * 10}


def augment(key, example):
    return example | {"image": example["image"] + 0.01 * jax.random.normal(key, example["image"].shape)}


def setup(*, data=1, fsdp=1, space=1, accumulate=1, steps=20, keep_ema=True, augment=augment, task=ToyTask):
    """The mesh, the sharded first state and the step."""
    instance = task()
    mesh = make_mesh(data=data, fsdp=fsdp, space=space)
    params = instance.init(jax.random.key(0), batch(0))
    config = OptimizerConfig(learning_rate=1e-2, warmup=2, end_lr_fraction=0.1, weight_decay=1e-2)
    optimizer = make_optimizer(config, steps=steps, frozen=frozen(params))
    state = make_state(params, optimizer, keep_ema=keep_ema)
    state = jax.device_put(state, state_sharding(mesh, state))
    step = make_step(instance, optimizer, augment, mesh=mesh, state=state, config=StepConfig(0.9, accumulate))
    return mesh, state, step


class Images:
    """Squares of different sizes in noise."""

    class_names = ("background", "cell")

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        labels = np.zeros((24, 24), np.int32)
        for number, (row, column) in enumerate(((1, 1), (1, 13), (13, 1), (13, 13)), start=1):
            labels[row : row + rng.integers(5, 11), column : column + rng.integers(5, 11)] = number
        image = rng.normal(labels > 0, 0.4).astype(np.float32)
        return Record(f"image{index}", "one", image[..., None], Segmentation.from_labels(labels))


class Thresholder:
    """Segments what is brighter than a threshold, which depends on the parameters."""

    def __init__(self, before_image):
        self.params, self.before_image = None, before_image
        self.predict = jax.jit(lambda params, image: image[..., 0] > 0.5 + 10 * params["out"].mean())

    def __call__(self, image):
        self.before_image()
        return Segmentation.from_labels(ndimage.label(np.asarray(self.predict(self.params, image)))[0])


def validation(num_images, before_image=lambda: None):
    """A validation on small images."""
    return Validation(Thresholder(before_image), Images(num_images), None)
