import numpy as np
import pytest

from segjax.inference.tile_merging import _cross_tile_nms, predict_and_merge
from segjax.inference.tiling import Windows

WINDOWS = Windows(tile=256, overlap=64)


def fake_detector(boxes, *, capacity=20):
    """A network that finds those of some boxes that show in a window, cut by its edges, anywhere it looks."""
    calls = []

    def predict(windows, size, proposals):
        calls.append((windows.shape, size.tolist(), proposals))
        left, top = windows[0, 0, 0]  # the image says where it is
        moved = boxes - np.array([left, top, left, top])
        clipped = np.clip(moved, 0, np.array([size[1], size[0], size[1], size[0]]))
        shows = ((clipped[:, 2:] - clipped[:, :2]) > 2).all(1)
        merged = np.zeros((1, capacity, 4), np.float32)
        merged[0, : shows.sum()] = clipped[shows]
        fraction = np.prod(clipped[:, 2:] - clipped[:, :2], 1) / np.prod(boxes[:, 2:] - boxes[:, :2], 1)
        scores = np.zeros((1, capacity), np.float32)
        scores[0, : shows.sum()] = 0.5 + 0.1 * fraction[shows]
        return {
            "boxes": merged,
            "classes": np.ones((1, capacity), int),
            "scores": scores,
            "valid": (np.arange(capacity) < shows.sum())[None],
            "dropped": np.array([1]),
        }

    return predict, calls


def where(height, width):
    """[H, W, 2]: every pixel says where it is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y], axis=-1).astype(np.float32)


def test_an_object_in_several_windows_is_found_once():
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(np.arange(10, 580, 45), np.arange(5, 380, 45)), -1).reshape(-1, 2)
    boxes = np.concatenate([corners, corners + rng.uniform(10, 40, corners.shape)], axis=1)
    predict, calls = fake_detector(boxes, capacity=200)
    merged = predict_and_merge(predict, where(420, 620), WINDOWS)
    assert len(calls) == 6
    assert merged["dropped"] == 6
    np.testing.assert_allclose(
        merged["boxes"][np.lexsort(merged["boxes"].T)], boxes[np.lexsort(boxes.T)], atol=1e-4
    )


def test_a_small_image_is_one_window_whose_size_is_told():
    boxes = np.array([[10.0, 10, 30, 40], [60, 2, 90, 20]])
    predict, calls = fake_detector(boxes)
    merged = predict_and_merge(predict, where(50, 100), WINDOWS)
    assert [call[:2] for call in calls] == [((1, 128, 128, 2), [50, 100])]
    np.testing.assert_allclose(merged["boxes"], boxes, atol=1e-4)


def test_a_large_object_is_kept_in_the_largest_piece():
    boxes = np.array([[100.0, 100, 500, 200]])
    predict, _ = fake_detector(boxes)
    merged = predict_and_merge(predict, where(256, 600), WINDOWS)
    widths = merged["boxes"][:, 2] - merged["boxes"][:, 0]
    # Windows begin at 0, 192 and 344; the second one sees 256 of 400 columns.
    assert widths[0] == widths.max() == 256
    # The others are mostly inside the piece that is kept, or mostly not.
    left, right = merged["boxes"][0, [0, 2]]
    for box in merged["boxes"][1:]:
        assert min(box[2], right) - max(box[0], left) <= (box[2] - box[0]) / 2


def pairwise(detections):
    """Selects detections as `_cross_tile_nms` does, by the definition."""
    boxes, selected = detections["boxes"].astype(float), []
    for index in np.lexsort((-detections["scores"], detections["cut"])):
        for other in selected:
            if detections["window"][index] == detections["window"][other]:
                continue
            if detections["classes"][index] != detections["classes"][other]:
                continue
            low = np.maximum(boxes[index, :2], boxes[other, :2])
            high = np.minimum(boxes[index, 2:], boxes[other, 2:])
            shared = np.prod(np.maximum(high - low, 0))
            own, better = (np.prod(box[2:] - box[:2]) for box in boxes[[index, other]])
            if shared > 0.5 * (own + better - shared) or (detections["cut"][index] and shared > 0.5 * own):
                break
        else:
            selected.append(index)
    return selected


def test_detections_of_many_windows_are_compared_with_all_that_overlap():
    rng = np.random.default_rng(0)
    # Windows of 64 pixels, of which each has neighbours on all sides, and one has no detection.
    corners = np.stack(np.meshgrid(np.arange(0, 200, 40), np.arange(0, 160, 40)), -1).reshape(-1, 2)
    windows = np.sort(rng.choice(np.setdiff1d(np.arange(len(corners)), [7]), 400))
    low = rng.integers(0, 50, (400, 2))
    boxes = np.concatenate([low, np.minimum(low + rng.integers(12, 40, (400, 2)), 64)], axis=1)
    detections = {
        "boxes": (boxes + np.tile(corners[windows], 2)).astype(np.float32),
        "window": windows,
        "cut": ((low == 0) | (boxes[:, 2:] == 64)).any(axis=1),
        "classes": rng.integers(1, 3, 400),
        "scores": rng.permutation(400) / 400,
    }
    selected = _cross_tile_nms(detections)
    assert 100 < len(selected) < 350
    assert selected.tolist() == pairwise(detections)


def test_no_detections():
    predict, _ = fake_detector(np.zeros((0, 4)))
    merged = predict_and_merge(predict, where(300, 300), WINDOWS)
    assert merged["boxes"].shape == (0, 4)


@pytest.mark.parametrize("capacity", [3, 50])
def test_proposals_are_handed_to_the_windows_that_show_them(capacity):
    proposals = np.array([[4.0 * i, 10, 4 * i + 20, 30] for i in range(140)])
    predict, calls = fake_detector(np.zeros((0, 4)))
    predict_and_merge(predict, where(256, 600), WINDOWS, proposals=proposals, max_proposals=capacity)
    shown = [
        sum(box[2] > left and box[0] < left + size[1] for box in proposals)
        for left, (_, size, _) in zip((0, 192, 344), calls, strict=True)
    ]
    for (shape, size, (boxes, valid)), count in zip(calls, shown, strict=True):
        assert shape == (1, 256, 256, 2)
        assert boxes.shape == (1, capacity, 4)
        inside = boxes[valid]
        assert len(inside) == min(capacity, count)
        assert (inside >= 0).all()
        assert (inside[:, 2] <= size[1]).all()


def test_windows_start_at_multiples_of_the_stride_so_that_anchors_agree():
    predict, calls = fake_detector(np.zeros((0, 4)))
    starts = set()

    def spy(windows, size, proposals):
        starts.add(tuple(windows[0, 0, 0].tolist()))
        return predict(windows, size, proposals)

    predict_and_merge(spy, where(300, 700), Windows(tile=256, overlap=64, stride=32))
    assert len(starts) == 2 * 4
    assert all(left % 32 == top % 32 == 0 for left, top in starts)
    assert {tuple(size) for _, size, _ in calls} == {(256, 252), (256, 256), (236, 252), (236, 256)}
