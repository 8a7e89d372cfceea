from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from segjax.ops.detection import DetectConfig, Proposals, ProposeConfig, detect, propose

SIZE = (64.0, 64.0)
BOXES = jnp.array([[0.0, 0, 20, 20], [1, 0, 21, 20], [40, 40, 60, 60], [30, 0, 50, 20], [0, 0, 0, 0]])


def proposals(valid=(True, True, True, True, False)):
    return Proposals(BOXES, jnp.zeros(5), jnp.array(valid))


@partial(jax.jit, static_argnames=("candidates", "max_detections"))
def detections(scores, deltas, proposals, candidates=50, max_detections=6):
    config = DetectConfig(score_threshold=0.1, candidates=candidates, max_detections=max_detections)
    return detect(scores, deltas, proposals, size=SIZE, config=config)


PROBABILITIES = jnp.array(
    [[0.1, 0.8, 0.1], [0.3, 0.7, 0.0], [0.0, 0.15, 0.85], [0.95, 0.05, 0.0], [0.0, 0.0, 1.0]]
)


def test_keeps_the_best_of_each_class():
    result = detections(PROBABILITIES, jnp.zeros((5, 3, 4)), proposals())
    # Box 1 is suppressed by box 0; 0.1 and 0.05 are not above the threshold; the last box is padding.
    np.testing.assert_allclose(result.scores, [0.85, 0.8, 0.15, 0, 0, 0], rtol=1e-6)
    assert result.classes.tolist() == [2, 1, 1, 0, 0, 0]
    assert result.valid.tolist() == [True] * 3 + [False] * 3
    assert result.valid.dtype == bool
    np.testing.assert_array_equal(result.boxes[:3], BOXES[jnp.array([2, 0, 2])])
    assert not result.boxes[3:].any()
    assert result.dropped == 0


def test_counts_what_exceeds_a_capacity():
    result = detections(PROBABILITIES, jnp.zeros((5, 3, 4)), proposals(), max_detections=2)
    assert result.dropped == 1
    assert result.valid.sum() == 2
    # Of four eligible pairs two are looked at, the better box of class 1 among them.
    result = detections(PROBABILITIES, jnp.zeros((5, 3, 4)), proposals(), candidates=2)
    assert result.dropped == 2
    np.testing.assert_allclose(result.scores[:2], [0.85, 0.8], rtol=1e-6)


def test_moves_each_box_by_the_deltas_of_its_class():
    deltas = jnp.zeros((5, 3, 4)).at[2, 2].set(jnp.array([5.0, 0, 0, 0]))  # half a width to the right
    result = detections(PROBABILITIES, deltas, proposals())
    np.testing.assert_allclose(result.boxes[0], [50, 40, 64, 60])  # clipped
    np.testing.assert_allclose(result.boxes[2], [40, 40, 60, 60])


def test_boxes_that_are_not_finite_are_left_out():
    deltas = jnp.zeros((5, 3, 4)).at[2, 2].set(jnp.nan)
    result = detections(PROBABILITIES, deltas, proposals())
    np.testing.assert_allclose(result.scores[:2], [0.8, 0.15], rtol=1e-6)
    assert np.isfinite(result.boxes).all()


def test_proposes_the_best_anchors_of_every_level():
    fine = jnp.array([[0.0, 0, 8, 8], [1, 0, 9, 8], [30, 30, 38, 38]])
    coarse = jnp.array([[0.0, 0, 8, 8], [100, 100, 120, 120]])
    result = propose(
        [jnp.array([1.0, 2, 0]), jnp.array([3.0, 9])],
        [jnp.zeros((3, 4)), jnp.zeros((2, 4))],
        [fine, coarse],
        size=SIZE,
        config=ProposeConfig(pre_nms=2, post_nms=4),
    )
    # The anchor outside of the image is dropped; the third of the fine level does not enter; levels do not
    # suppress each other, although the first boxes of both are the same.
    assert result.valid.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(result.boxes[:2], [[0, 0, 8, 8], [1, 0, 9, 8]])
    np.testing.assert_array_equal(result.scores[:2], [3, 2])


def test_an_image_without_anything():
    result = detections(jnp.zeros((5, 3)), jnp.zeros((5, 3, 4)), proposals((False,) * 5))
    assert not result.valid.any()
    assert result.dropped == 0
