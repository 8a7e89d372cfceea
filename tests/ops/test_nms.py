import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops import nms as module
from tests.oracles import nms as oracle

nms = jax.jit(module.nms, static_argnames="iou_threshold")


def crowded(seed: int, count: int):
    """Boxes of cells in clumps, three classes, a tenth of them padding."""
    rng = np.random.default_rng(seed)
    clumps = rng.uniform(0, 200, (count // 10, 2))
    centres = clumps[rng.integers(len(clumps), size=count)] + rng.normal(0, 8, (count, 2))
    sides = rng.uniform(4, 30, (count, 2))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)
    scores = rng.permutation(count).astype(np.float32)
    return boxes, scores, rng.random(count) > 0.1, rng.integers(3, size=count)


@pytest.mark.parametrize("iou_threshold", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_one_box_at_a_time(seed, iou_threshold):
    boxes, scores, valid, classes = crowded(seed, 200)
    selected = nms(boxes, scores, valid, iou_threshold=iou_threshold, classes=classes)
    expected = oracle.nms(boxes, scores, valid, iou_threshold=iou_threshold, classes=classes)
    np.testing.assert_array_equal(selected, expected)


def test_a_suppressed_box_suppresses_nothing():
    # A overlaps B and B overlaps C by 0.43; A and C do not meet: B goes, C stays.
    boxes = jnp.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], jnp.float32)
    selected = nms(boxes, jnp.array([3.0, 2, 1]), jnp.ones(3, bool), iou_threshold=0.4)
    np.testing.assert_array_equal(selected, [True, False, True])


def test_keeps_both_at_exactly_the_threshold():
    boxes = jnp.array([[0, 0, 10, 10], [0, 0, 10, 5]], jnp.float32)  # IoU 0.5
    assert nms(boxes, jnp.array([2.0, 1]), jnp.ones(2, bool), iou_threshold=0.5).all()


def test_a_chain_of_overlaps_is_settled_link_by_link():
    # Each box overlaps the next alone: of 64 every second one stays, and it takes as many rounds to know.
    left = np.arange(64) * 5.0
    boxes = np.stack([left, np.zeros(64), left + 10, np.full(64, 10)], axis=1).astype(np.float32)
    selected = nms(boxes, -left, np.ones(64, bool), iou_threshold=0.3)
    np.testing.assert_array_equal(selected, np.arange(64) % 2 == 0)


def test_padding_changes_nothing():
    boxes, scores, valid, _ = crowded(0, 100)
    alone = nms(boxes[valid], scores[valid], jnp.ones(valid.sum(), bool), iou_threshold=0.5)
    padded = nms(boxes, scores, valid, iou_threshold=0.5)
    np.testing.assert_array_equal(padded[valid], alone)
    assert not padded[~valid].any()


def test_batches_by_vmap_and_keeps_nothing_of_an_empty_image():
    images = [crowded(seed, 50)[:3] for seed in range(3)]
    boxes, scores, valid = (jnp.stack(parts) for parts in zip(*images, strict=True))
    valid = valid.at[1].set(False)
    selected = jax.vmap(lambda b, s, v: nms(b, s, v, iou_threshold=0.5))(boxes, scores, valid)
    assert selected.any(axis=1).tolist() == [True, False, True]


@pytest.mark.parametrize("seed", range(3))
def test_both_ways_of_computing_agree(seed):
    boxes, scores, valid, classes = crowded(seed, 200)
    order = np.argsort(-scores, kind="stable")
    ranked = boxes[order], valid[order], classes[order], jnp.float32(0.3)
    np.testing.assert_array_equal(module._sequential(*ranked), module._parallel(*ranked))


def test_cpus_go_box_by_box_and_others_make_all_steps_at_once():
    traced = nms.trace(*crowded(0, 50)[:3], iou_threshold=0.5)
    square = "50x50xf32"
    assert square not in traced.lower(lowering_platforms=("cpu",)).as_text()
    for platform in ("cuda", "tpu"):
        assert square in traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.peers
@pytest.mark.parametrize("iou_threshold", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_agrees_with_torchvision(iou_threshold):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    ops = pytest.importorskip("torchvision.ops", reason="the peers extra is not installed")
    boxes, scores, _, classes = crowded(7, 1000)
    tensors = torch.tensor(boxes), torch.tensor(scores), torch.tensor(classes)
    expected = np.isin(np.arange(1000), ops.batched_nms(*tensors, iou_threshold).numpy())
    selected = nms(boxes, scores, jnp.ones(1000, bool), iou_threshold=iou_threshold, classes=classes)
    np.testing.assert_array_equal(selected, expected)
