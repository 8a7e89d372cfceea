import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from segjax.data.targets import TARGETS
from segjax.errors import InputError
from segjax.representations import REPRESENTATIONS, DecoderConfig
from segjax.representations.flows import FACTOR
from segjax.tasks.semantic import (
    SemanticConfig,
    SemanticTask,
    mean_probabilities,
    output_channels,
)
from segjax.typing import IGNORE


class Echo:
    """A network whose parameters are its outputs."""

    def init(self, key, images):
        return {"params": {}}

    def apply(self, variables, images):
        return variables["params"]


def make(instances, **options):
    options = {"losses": {"cross_entropy": 1.0}, "min_area": (4,)} | options
    return SemanticTask(Echo(), 3, SemanticConfig(instances=instances, **options))


def scene():
    """Two touching cells of class 1 and one of class 2."""
    labels = np.zeros((24, 40), np.int32)
    y, x = np.mgrid[:24, :40]
    labels[(y - 12) ** 2 + (x - 10) ** 2 < 49] = 1
    labels[((y - 12) ** 2 + (x - 22) ** 2 < 49) & (labels == 0)] = 2
    labels[(y - 12) ** 2 + (x - 35) ** 2 < 9] = 3
    return labels, np.array([0, 1, 1, 2])[labels]


def perfect(labels, semantic, instances):
    logits = 20.0 * np.eye(3, dtype=np.float32)[np.maximum(semantic, 0)]
    outputs = {"classes": logits[None]}
    values = REPRESENTATIONS[instances].encode(labels)
    if instances in ("boundary", "colours"):
        values = 40 * values - 20
    if instances == "flows":
        values = FACTOR * values
    if instances != "components":
        outputs[instances] = np.atleast_3d(values)[None]
    return outputs


@pytest.mark.parametrize("instances", REPRESENTATIONS)
def test_what_a_perfect_network_says_is_segmented_perfectly(instances):
    labels, semantic = scene()
    task = make(instances)
    outputs = task.predict(perfect(labels, semantic, instances), jnp.zeros((1, 24, 40, 1)))
    segmentation = task.segment({name: np.asarray(values[0]) for name, values in outputs.items()})
    np.testing.assert_array_equal(segmentation.semantic, semantic)
    if instances == "components":  # touching cells of a class are one component
        np.testing.assert_array_equal(segmentation.labels, np.array([0, 1, 1, 2])[labels])
        assert segmentation.classes.tolist() == [1, 2]
    else:
        assert segmentation.classes.tolist() == [1, 1, 2]
        assert (segmentation.labels == labels).mean() > 0.97
    assert (segmentation.scores > 0.99).all()


@pytest.mark.parametrize("instances", REPRESENTATIONS)
def test_the_loss_is_least_for_the_truth_and_blind_to_what_is_ignored(instances):
    labels, semantic = scene()
    ignored = semantic.copy()
    ignored[:, 30:] = IGNORE
    batch = {"image": jnp.zeros((1, 24, 40, 1)), "labels": labels[None], "semantic": ignored[None]}
    batch |= {name: target(labels)[None] for name, target in TARGETS.items()}
    task = make(instances)
    best = perfect(labels, semantic, instances)
    loss, terms = task.loss(best, batch, jax.random.key(0))
    assert loss < 1e-3
    assert set(terms) == {"cross_entropy"} | ({instances} - {"components"})

    def spoil(where):
        return jax.tree.map(
            lambda x: x.at[:, :, where].set(-x[:, :, where] + 1), jax.tree.map(jnp.asarray, best)
        )

    assert task.loss(spoil(np.s_[:30]), batch, jax.random.key(0))[0] > 0.5
    np.testing.assert_allclose(task.loss(spoil(np.s_[30:]), batch, jax.random.key(0))[0], loss, rtol=1e-6)
    grads = jax.grad(lambda outputs: task.loss(outputs, batch, jax.random.key(0))[0])(spoil(np.s_[:30]))
    for values in grads.values():
        assert jnp.isfinite(values).all()
        assert values[:, :, :30].any()
        assert not values[:, :, 30:].any()


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(None, [0, 1, 2, 0]), (0.3, [1, 1, 2, 0]), (0.55, [0, 1, 0, 0]), (0.9, [0] * 4)],
)
def test_foreground_is_where_the_sum_of_its_classes_exceeds_a_threshold(threshold, expected):
    pixels = [[0.6, 0.3, 0.1], [0.3, 0.4, 0.3], [0.5, 0.0, 0.5 + 1e-3], [0.9, 0.05, 0.05]]
    task = make("components", foreground_threshold=threshold, min_area=(1,))
    segmentation = task.segment({"classes": np.array([pixels], np.float32)})
    assert segmentation.semantic[0].tolist() == expected


def test_settings_of_the_decoder_reach_it():
    labels, semantic = scene()
    outputs = make("distance").predict(perfect(labels, semantic, "distance"), jnp.zeros((1, 24, 40, 1)))
    outputs = {name: np.asarray(values[0]) for name, values in outputs.items()}
    for h, expected in ((0.1, [1, 1, 2]), (2.0, [1, 2])):  # no peak is that high
        task = make("distance", decoder=DecoderConfig(h=h))
        assert task.segment(outputs).classes.tolist() == expected


def test_small_instances_are_dropped_by_class():
    labels, semantic = scene()
    for areas, expected in (((4, 100), [1, 1]), ((1000, 4), [2])):
        task = make("distance", losses={"dice": 1.0}, min_area=areas)
        outputs = perfect(labels, semantic, "distance")
        outputs = {"classes": softmax(outputs["classes"][0], -1), "distance": outputs["distance"][0, ..., 0]}
        assert task.segment(outputs).classes.tolist() == expected


def test_an_empty_prediction_is_an_empty_segmentation():
    for instances in REPRESENTATIONS:
        task = make(instances)
        outputs = {"classes": np.eye(3)[np.zeros((8, 8), int)].astype(np.float32)}
        outputs[instances] = np.zeros_like(REPRESENTATIONS[instances].encode(np.zeros((8, 8), np.int32)))
        assert task.segment(outputs).num_instances == 0


def test_scores_are_mean_probabilities_of_the_instances_class():
    probabilities = np.array([[[0.2, 0.8], [0.4, 0.6], [1.0, 0.0]]])
    scores = mean_probabilities(probabilities, np.array([[1, 1, 0]]), np.array([1]))
    np.testing.assert_allclose(scores, [0.7], rtol=1e-6)


def test_refuses_what_it_does_not_know():
    with pytest.raises(InputError, match="components, boundary, distance, poisson, flows"):
        output_channels(SemanticConfig(instances="stars"), 3)
    with pytest.raises(InputError, match="3 values for 2"):
        make("distance", min_area=(1, 2, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("instances", REPRESENTATIONS)
def test_outputs_that_are_not_finite_are_refused(instances, value):
    labels, semantic = scene()
    task = make(instances)
    for name in task.predict(perfect(labels, semantic, instances), jnp.zeros((1, 24, 40, 1))):
        outputs = task.predict(perfect(labels, semantic, instances), jnp.zeros((1, 24, 40, 1)))
        damaged = {key: np.array(values[0]) for key, values in outputs.items()}
        damaged[name][10, 10] = value
        with pytest.raises(InputError, match=f"the output {name} of the network is not finite"):
            task.segment(damaged)


def test_instances_far_smaller_than_the_others_are_dropped():
    labels, semantic = scene()
    labels = np.where(labels == 3, 0, labels)
    labels[2:5, 34:37] = 3
    semantic = (labels > 0).astype(int)
    for fraction, expected in ((0.0, 3), (0.05, 3), (0.1, 2)):
        task = make("distance", min_fraction=fraction)
        outputs = perfect(labels, semantic, "distance")
        outputs = {"classes": softmax(outputs["classes"][0], -1), "distance": outputs["distance"][0, ..., 0]}
        assert task.segment(outputs).num_instances == expected
