"""A class for every pixel, and instances from that: a watershed parts what touches."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import label as connected_components

from segjax.errors import InputError
from segjax.losses import mean_where, smooth_l1, weighted_sum
from segjax.models.layers import frozen
from segjax.ops.masks import boundaries
from segjax.segmentation import Segmentation
from segjax.segmentation.split_touching import split_touching
from segjax.tasks.base import Task
from segjax.typing import IGNORE, Array, Batch, Model, Outputs, Params

# How instances are told apart, and the channels of the extra output that it takes.
INSTANCES = {"components": 0, "boundary": 1, "distance": 1}


def output_channels(instances: str, num_classes: int) -> dict[str, int]:
    """The outputs a network needs for this task: name -> channels.

    Raises:
      InputError: if `instances` is none of `INSTANCES`.
    """
    if instances not in INSTANCES:
        raise InputError(
            f"config.task.instances={instances!r} is unknown: choose one of {', '.join(INSTANCES)}"
        )
    extra = INSTANCES[instances]
    return {"classes": num_classes} | ({instances: extra} if extra else {})


def make_semantic(
    model: Model,
    *,
    num_classes: int,
    instances: str = "distance",
    losses: Mapping[str, float],
    class_weights: tuple[float, ...] | None = None,
    instance_weight: float = 1.0,
    smoothing: float = 1.0,
    h: float = 0.1,
    min_area: tuple[int, ...] = (20,),
    boundary_threshold: float = 0.5,
) -> Task:
    """Makes the task.

    Args:
      model: gives the outputs that `output_channels` names.
      num_classes: K, background included.
      instances: "components" (connected pixels of a class), "boundary" (a second output marks the rims
        of instances; what is left of a cell inside its rim is the seed of a watershed), or "distance"
        (a second output estimates the distance transform, 1 at the heart of each instance; its
        h-maxima are the seeds).
      losses: weight of each loss on the classes, see `segjax.losses.LOSSES`.
      class_weights: of each class in those losses; all 1 if None.
      instance_weight: of the loss on the second output.
      smoothing: sigma in pixels of the Gaussian over the map that is flooded.
      h: how far a maximum of that map must rise above the pass to the next to be an instance of its own.
      min_area: instances of fewer pixels are dropped; one number for all classes, or one for each but
        the background.
      boundary_threshold: probability above which a pixel is a rim.

    Returns:
      The task.
    """
    output_channels(instances, num_classes)
    classification = weighted_sum(losses, class_weights=class_weights)
    areas = tuple(min_area) * (num_classes - 1 if len(min_area) == 1 else 1)
    if len(areas) != num_classes - 1:
        raise InputError(
            f"config.task.min_area has {len(areas)} values for {num_classes - 1} foreground classes:"
            " give one number, or one for each"
        )

    def init(key: Array, batch: Batch) -> Params:
        return model.init(key, batch["image"])["params"]

    def loss(params: Params, batch: Batch, key: Array) -> tuple[Array, Mapping[str, Array]]:
        del key
        outputs = model.apply({"params": params}, batch["image"])
        total, terms = classification(outputs["classes"], batch)
        if instances != "components":
            values = instance_loss(outputs[instances][..., 0], batch)
            mean = mean_where(values, batch["semantic"] != IGNORE)
            total, terms = total + instance_weight * mean, {**terms, instances: mean}
        return total, terms

    def instance_loss(estimate: Array, batch: Batch) -> Array:
        """[B, H, W] loss of the second output."""
        if instances == "distance":
            return smooth_l1(estimate, batch["distance"], beta=0.1)
        rims = jax.vmap(boundaries)(batch["labels"])
        return jnp.logaddexp(0, jnp.where(rims, -estimate, estimate))  # binary cross-entropy

    def predict(params: Params, images: Array) -> Outputs:
        outputs = model.apply({"params": params}, images)
        result: dict[str, Array] = {"classes": jax.nn.softmax(outputs["classes"])}
        if instances == "distance":
            result["distance"] = outputs["distance"][..., 0]
        if instances == "boundary":
            result["boundary"] = jax.nn.sigmoid(outputs["boundary"][..., 0])
        return result

    def split(foreground: np.ndarray, outputs: Outputs, area: int) -> np.ndarray:
        if instances == "distance":
            height = np.asarray(outputs["distance"])
            return split_touching(foreground, height, smoothing=smoothing, h=h, min_area=area)
        if instances == "boundary":
            interior = foreground & (np.asarray(outputs["boundary"]) < boundary_threshold)
            seeds, _ = connected_components(interior)
            return split_touching(foreground, None, seeds=seeds, smoothing=smoothing, h=h, min_area=area)
        labels, _ = connected_components(foreground)
        kept = np.bincount(labels.ravel()) >= area
        kept[0] = False
        return np.where(kept[labels], labels, 0)

    def segment(outputs: Outputs) -> Segmentation:
        probabilities = np.asarray(outputs["classes"])
        semantic = probabilities.argmax(-1).astype(np.int32)
        labels = np.zeros(semantic.shape, np.int32)
        classes: list[int] = []
        for index, area in enumerate(areas, start=1):
            parts = split(semantic == index, outputs, area)
            ids = np.unique(parts[parts > 0])
            renumbered = np.searchsorted(ids, parts) + 1 + len(classes)
            labels = np.where(parts > 0, renumbered, labels).astype(np.int32)
            classes += [index] * len(ids)
        scores = mean_probabilities(probabilities, labels, np.array(classes, np.int32))
        return Segmentation.from_labels(labels, classes=classes, scores=scores, semantic=semantic)

    return Task(init, loss, predict, segment, frozen)


def mean_probabilities(probabilities: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The mean probability, over the pixels of each instance, of the instance's class.

    Args:
      probabilities: [H, W, K] float.
      labels: [H, W] int, ids 1..N.
      classes: [N] int.

    Returns:
      [N] float32.
    """
    inside = labels > 0
    ids = labels[inside] - 1
    own = probabilities[inside, classes[ids]]
    count = np.bincount(ids, minlength=len(classes))
    return (np.bincount(ids, weights=own, minlength=len(classes)) / np.maximum(count, 1)).astype(np.float32)
